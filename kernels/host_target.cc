#include "kernels/host_target.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/checksum.h"
#include "kernels/digest.h"
#include "kernels/file_error.h"
#include "kernels/non_temporal_copy.h"

namespace weightstream {
namespace {

constexpr uint64_t kStartAlignment = 4096;
// Read, and summed while it is in the cache.
constexpr uint64_t kDigestReadBytes = 256 << 10;
// The mapping is rounded up to pages, which must not pass what off_t can say.
constexpr uint64_t kMaxFileBytes = static_cast<uint64_t>(std::numeric_limits<off_t>::max()) - (uint64_t{1} << 30);

absl::Status ValidateSpec(const TargetSpec& spec) {
  if (spec.start_in_file % kStartAlignment != 0) {
    return absl::InvalidArgumentError(absl::StrCat("target ", spec.path, ": data must start at a multiple of ",
                                                   kStartAlignment, " bytes in the file, not at ", spec.start_in_file));
  }
  if (spec.start_in_file > kMaxFileBytes || spec.bytes > kMaxFileBytes - spec.start_in_file) {
    return absl::InvalidArgumentError(absl::StrCat("target ", spec.path, ": ", spec.bytes, " bytes from ",
                                                   spec.start_in_file, " on are more than a file can hold"));
  }
  return absl::OkStatus();
}

absl::StatusOr<int> OpenFile(const TargetSpec& spec) {
  const std::string& path = spec.path;
  if (spec.file >= 0) {
    const int own = fcntl(spec.file, F_DUPFD_CLOEXEC, 0);
    if (own < 0) return FileError(errno, "open target", path);
    return own;
  }
  int fd;
  do {
    // NONBLOCK: a FIFO or a device in the file's place is an error, not a wait. It changes nothing for a regular file.
    fd = open(path.c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0 && errno == ELOOP) {
    return absl::InvalidArgumentError(absl::StrCat("target ", path, " is a symbolic link; name the file itself"));
  }
  if (fd < 0) return FileError(errno, "open target", path);
  return fd;
}

// A file without a name, of memory, which goes as it is closed.
absl::StatusOr<int> NewMemoryFile() {
  const int fd = memfd_create("weightstream", MFD_CLOEXEC);
  if (fd < 0) return FileError(errno, "make", "a target in memory");
  return fd;
}

// Grows the file to `bytes`, if it is smaller. The new part is a hole.
absl::Status GrowFile(int fd, uint64_t bytes, const std::string& path) {
  struct stat file;
  if (fstat(fd, &file) != 0) return FileError(errno, "examine target", path);
  if (!S_ISREG(file.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat("target ", path, " is not a regular file"));
  }
  if (static_cast<uint64_t>(file.st_size) >= bytes) return absl::OkStatus();
  int result;
  do {
    result = ftruncate(fd, static_cast<off_t>(bytes));
  } while (result != 0 && errno == EINTR);
  if (result == 0) return absl::OkStatus();
  if (IsOutOfRoom(errno)) return OutOfRoomError(errno, fd, bytes, path);
  return FileError(errno, "grow target", path);
}

uint64_t ExtentCount(const TargetSpec& spec) {
  const uint64_t first = spec.start_in_file / kHostTargetExtentBytes;
  const uint64_t end = (spec.start_in_file + spec.bytes + kHostTargetExtentBytes - 1) / kHostTargetExtentBytes;
  return std::max(first, end) - first;
}

}  // namespace

HostTarget::HostTarget(TargetSpec spec, const HostDeviceOptions& options, int fd, HostRoom::Part room)
    : spec_(std::move(spec)),
      expose_memory_(!options.device_like),
      fallocate_(options.fallocate ? options.fallocate : SystemFallocate),
      fd_(fd),
      room_(std::move(room)),
      gate_(ExtentCount(spec_)) {}

HostTarget::~HostTarget() {
  mapping_.reset();
  close(fd_);
}

absl::StatusOr<std::unique_ptr<HostTarget>> HostTarget::Create(const TargetSpec& spec,
                                                               const HostDeviceOptions& options) {
  if (absl::Status status = ValidateSpec(spec); !status.ok()) return status;
  HostRoom::Part room;
  if (options.memory != nullptr) {
    absl::StatusOr<HostRoom::Part> taken = HostRoom::Take(options.memory, spec.bytes);
    if (!taken.ok()) return taken.status();
    room = *std::move(taken);
  }
  absl::StatusOr<int> fd = options.memory != nullptr ? NewMemoryFile() : OpenFile(spec);
  if (!fd.ok()) return fd.status();
  std::unique_ptr<HostTarget> target(new HostTarget(spec, options, *fd, std::move(room)));
  const ByteRange in_file{spec.start_in_file, spec.start_in_file + spec.bytes};
  if (absl::Status status = GrowFile(*fd, in_file.end, spec.path); !status.ok()) return status;
  // mmap refuses an empty mapping, and nobody needs one.
  if (in_file.empty()) return target;
  auto mapping = FileMapping::Create(*fd, in_file, options.huge_pages, spec.path);
  if (!mapping.ok()) return mapping.status();
  target->mapping_ = *std::move(mapping);
  return target;
}

absl::Status HostTarget::CheckInside(ByteRange range, absl::string_view action) const {
  if (range.begin <= range.end && range.end <= spec_.bytes) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("cannot ", action, " bytes ", range.begin, " to ", range.end, " of target ",
                                          spec_.path, ", which has ", spec_.bytes,
                                          "; this is a defect of the program"));
}

ByteRange HostTarget::InFile(ByteRange range) const {
  return {spec_.start_in_file + range.begin, spec_.start_in_file + range.end};
}

HostTarget::Extents HostTarget::ExtentsOf(ByteRange range) const {
  const uint64_t target_first = spec_.start_in_file / kHostTargetExtentBytes;
  const ByteRange in_file = InFile(range);
  return {in_file.begin / kHostTargetExtentBytes - target_first,
          (in_file.end - 1) / kHostTargetExtentBytes + 1 - target_first};
}

absl::Status HostTarget::Prepare(ByteRange range) {
  if (absl::Status status = CheckInside(range, "prepare"); !status.ok()) return status;
  if (range.empty()) return absl::OkStatus();
  const Extents extents = ExtentsOf(range);
  return gate_.Pass(extents.first, extents.end, [this](uint64_t extent) { return PrepareExtent(extent); });
}

absl::Status HostTarget::PrepareExtent(uint64_t extent) {
  const uint64_t extent_begin = (spec_.start_in_file / kHostTargetExtentBytes + extent) * kHostTargetExtentBytes;
  const ByteRange target = InFile({0, spec_.bytes});
  const ByteRange range{std::max(extent_begin, target.begin),
                        std::min(extent_begin + kHostTargetExtentBytes, target.end)};
  mapping_->BackWithHugePages(range);
  // After huge pages this finds nothing left to do; it is what makes the promise of Prepare, in every case.
  if (absl::Status status = AllocateFileRange(fallocate_, fd_, range, spec_.path); !status.ok()) return status;
  if (absl::Status status = mapping_->Populate(range); !status.ok()) return status;
  prepared_bytes_.fetch_add(range.size(), std::memory_order_relaxed);
  return absl::OkStatus();
}

char* HostTarget::host_data() {
  if (!expose_memory_ || mapping_ == nullptr) return nullptr;
  return mapping_->At(spec_.start_in_file);
}

absl::Status HostTarget::Sync() {
  // fdatasync alone, without msync: on Linux the pages of a shared mapping are the file's page cache, and the kernel
  // tracks stores into them (a page is write-protected after each write-back), so that syncing the file finds them. It
  // also writes the file's size, which is needed to read the data back.
  int result;
  do {
    result = fdatasync(fd_);
  } while (result != 0 && errno == EINTR);
  return result == 0 ? absl::OkStatus() : FileError(errno, "make durable", spec_.path);
}

absl::Status HostTarget::Write(absl::string_view bytes, uint64_t offset) {
  // The sum may wrap around; CheckInside then sees a range that ends before it begins.
  const ByteRange range{offset, offset + bytes.size()};
  if (absl::Status status = CheckInside(range, "copy to"); !status.ok()) return status;
  if (range.empty()) return absl::OkStatus();
  const Extents extents = ExtentsOf(range);
  if (!gate_.IsDone(extents.first, extents.end)) {
    return absl::InternalError(absl::StrCat("copy to bytes ", range.begin, " to ", range.end, " of target ", spec_.path,
                                            " before they were prepared; this is a defect of the program"));
  }
  NonTemporalCopy(mapping_->At(spec_.start_in_file + offset), bytes);
  NonTemporalFence();
  return absl::OkStatus();
}

absl::Status HostTarget::Read(ByteRange range, char* destination) const {
  if (absl::Status status = CheckInside(range, "read"); !status.ok()) return status;
  // Through the file, not the mapping: a load from a hole would have to allocate it, and could raise SIGBUS on a full
  // medium. The page cache is the same, so what was copied is seen.
  return ReadFileRange(fd_, InFile(range), destination, spec_.path);
}

absl::StatusOr<std::vector<uint32_t>> HostTarget::Digest(ByteRange range, uint64_t block_bytes) const {
  if (absl::Status status = CheckInside(range, "digest"); !status.ok()) return status;
  if (absl::Status status = CheckDigestBlock(block_bytes); !status.ok()) return status;
  std::vector<uint32_t> digests;
  std::string piece(std::min(kDigestReadBytes, range.size()), '\0');
  for (uint64_t block = range.begin; block < range.end; block += block_bytes) {
    const uint64_t end = block + std::min(block_bytes, range.end - block);
    digests.push_back(0);
    for (uint64_t at = block; at < end; at += piece.size()) {
      const ByteRange part{at, at + std::min<uint64_t>(piece.size(), end - at)};
      if (absl::Status status = Read(part, piece.data()); !status.ok()) return status;
      digests.back() = ExtendCrc32c(digests.back(), absl::string_view(piece.data(), part.size()));
    }
  }
  return digests;
}

}  // namespace weightstream
