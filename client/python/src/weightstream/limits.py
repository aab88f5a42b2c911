"""Every number that the client chooses, with its reason."""

MIB = 1 << 20

# One connection is bound by one thread of grpcio; two saturate a small machine.
DEFAULT_CONNECTIONS = 2
# Below this a second connection costs more in set-up than it carries.
ONE_CONNECTION_BELOW_BYTES = 8 * MIB
# Far above what any link needs; it catches a mistyped number.
MOST_CONNECTIONS = 64

# What a server is asked to take, and used on a long way.
LARGEST_CHUNK_BYTES = 4 * MIB
# As in client/defaults.h: larger messages leave the caches before they are copied out.
CHUNK_BYTES = MIB
# Below this a chunk of its own costs more than what it carries.
SMALL_TENSOR_BYTES = 256 << 10
# As the wire says of WeightChunk.followed_by.
MOST_FOLLOWING_TENSORS = 4096
MOST_FOLLOWING_NAME_BYTES = 48 << 10
MOST_SOURCE_ID_BYTES = 256

# Replies carry manifests and lists of missing ranges: some 100 bytes a tensor.
MOST_REPLY_BYTES = 256 * MIB

# A server farther away than this gets large chunks on several streams a connection: gRPC opens its window for the
# message that is being received and little further, so that one stream stands still for a round trip after each.
NEAR_ROUND_TRIP_SECONDS = 0.005
# What a connection may get over a long way (a gigabit a second), two and a half times over: streams do not take turns
# evenly.
FAR_BYTES_PER_SECOND = 2.5 * 125e6
# More connections than these share what they would have on the way: a server holds a chunk or two of each stream.
FAR_CONNECTIONS = 4
LEAST_FAR_STREAMS = 2
MOST_FAR_STREAMS = 16

FIRST_BACKOFF_SECONDS = 0.1
MOST_BACKOFF_SECONDS = 5.0
# How often a server that answers may bring nothing new in a row.
MOST_ATTEMPTS = 5
# It answers but takes no data: once may be chance, waiting longer than twice is no help to anyone.
MOST_STALLS = 2
# How often the calling thread looks at stalls, progress and cancellation.
SUPERVISION_SECONDS = 0.05
# For the parting AbortUpdate, which must not hold up the report of the failure that led to it.
ABORT_SECONDS = 5.0
# For each step of looking into a handshake that failed, which delays the error that it explains.
PROBE_SECONDS = 1.0
# grpcio's threads leave our iterators as soon as they have a message in hand.
RELEASE_SECONDS = 10.0

# A year is as good as for ever to who waits, and every clock and timer below us can still count it.
MOST_SECONDS = 365 * 86400.0
# A day, which the wire's milliseconds can tell.
MOST_INTERVAL_SECONDS = 86400.0
# As the wire has versions, and the numbers of bytes in a message.
LARGEST_VERSION = (1 << 64) - 1
MOST_CHUNK_BYTES = 1 << 30
