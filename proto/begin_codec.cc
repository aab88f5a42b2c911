#include "proto/begin_codec.h"

#include <algorithm>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "proto/wire_cursor.h"
#include "proto/wire_writer.h"
#include "tensor/dtype.h"
#include "tensor/text.h"

namespace weightstream {
namespace {

// weightstream.v1.BeginUpdateRequest.tensors; wire_contract_test.cc holds the .proto to this and those below.
constexpr uint32_t kTensors = 3;

// Field numbers of weightstream.v1.TensorSpec.
enum TensorField : uint32_t { kName = 1, kDType = 2, kShape = 3 };

// ---- Parsing --------------------------------------------------------------------------------------------------------

bool ReadText(WireCursor& cursor, std::string* text) {
  uint64_t length = 0;
  if (!cursor.ReadLength(&length)) return false;
  cursor.ReadString(length, text);
  return IsValidUtf8(*text) || cursor.Fail("a text is not valid UTF-8");
}

// The room that a spec takes is taken only where at least so many bytes of the message are left for each: what is
// allocated stays a small multiple of it.
constexpr uint64_t kLeastBytesReservedFor = 24;

// A tensor's message as every serializer writes it and nearly every manifest has it: the fields in their order, each at
// most once, none unknown, no length of 128 or more. The views are into it.
struct PlainTensor {
  absl::string_view name;
  absl::string_view dtype;
  absl::InlinedVector<uint64_t, 8> shape;

  // False for whatever is not like this, well formed or not; then nothing is meant by the members.
  bool Read(const uint8_t* at, uint64_t bytes) {
    const uint8_t* const end = at + bytes;
    return ReadText(kName, at, end, name) && ReadText(kDType, at, end, dtype) && ReadShape(at, end) && at == end;
  }

 private:
  static bool ReadText(uint32_t field, const uint8_t*& at, const uint8_t* end, absl::string_view& text) {
    text = absl::string_view();
    if (end - at < 2 || at[0] != MakeTag(field, kLengthDelimited)) return true;
    const size_t length = at[1];
    if (length >= 0x80 || length > static_cast<size_t>(end - at) - 2) return false;
    text = absl::string_view(reinterpret_cast<const char*>(at) + 2, length);
    at += 2 + length;
    return IsValidUtf8(text);
  }

  bool ReadShape(const uint8_t*& at, const uint8_t* end) {
    shape.resize(0);
    if (end - at < 2 || at[0] != MakeTag(kShape, kLengthDelimited)) return true;
    if (at[1] >= 0x80 || at[1] != end - at - 2) return false;
    at += 2;
    while (at < end) {
      uint64_t dimension = 0;
      int shift = 0;
      // Nine bytes at most: what a tenth may hold is not ours to judge.
      for (; at < end && *at >= 0x80 && shift < 56; shift += 7) dimension |= uint64_t{*at++ & 0x7fU} << shift;
      if (at == end || *at >= 0x80 || shape.size() == kMaxTensorRank) return false;
      shape.push_back(dimension | uint64_t{*at++} << shift);
    }
    return true;
  }
};

// Reads the manifest, and keeps the rest of the message as it is.
class Reader {
 public:
  Reader(absl::Span<const grpc::Slice> slices, BeginRequest& request) : cursor_(slices), request_(request) {}

  bool Read(const FindKnownManifest& known) {
    bool seen_tensor = false;
    while (!cursor_.AtEnd()) {
      const WireCursor field = cursor_;
      uint32_t tag = 0;
      if (!cursor_.ReadTag(&tag)) return false;
      const bool is_tensor = tag == MakeTag(kTensors, kLengthDelimited);
      if (is_tensor && !seen_tensor) {
        if (known != nullptr && TakeKnown(field, known)) break;
        KeepWire(field);
      }
      seen_tensor |= is_tensor;
      if (!is_tensor && seen_tensor) DropWire();
      if (!(is_tensor ? ReadTensor() : KeepField(tag))) return false;
    }
    // There is none that the generated code would take for a tensor.
    return request_.fields.ParseFromString(others_);
  }

 private:
  // `field` is where the first tensor's begins.
  bool TakeKnown(WireCursor field, const FindKnownManifest& known) {
    v1::BeginUpdateRequest so_far;
    if (!so_far.ParseFromString(others_)) return false;
    const absl::string_view wire = known(so_far);
    if (wire.empty() || !field.TakeRestIf(wire)) return false;
    cursor_ = field;
    request_.is_known = true;
    return true;
  }

  void KeepWire(WireCursor field) {
    if (field.remaining() > kMostKnownManifestBytes) return;
    // Exactly so much: it may be kept for long.
    std::string wire;
    wire.reserve(field.remaining());
    field.ReadString(field.remaining(), &wire);
    request_.wire.swap(wire);
  }

  // To clear it would keep its memory.
  void DropWire() { std::string().swap(request_.wire); }

  bool ReadTensor() {
    uint64_t length = 0;
    if (!cursor_.ReadLength(&length)) return false;
    const uint64_t remaining_after = cursor_.remaining() - length;
    if (AddPlainTensor(length)) return true;
    name_.clear();
    dtype_.clear();
    shape_.resize(0);
    dimensions_ = 0;
    while (cursor_.remaining() > remaining_after) {
      uint32_t tag = 0;
      if (!cursor_.ReadTag(&tag) || !ReadTensorField(tag)) return false;
    }
    if (cursor_.remaining() < remaining_after) return cursor_.Fail("a tensor runs past its length");
    // The rest of the message is still looked at: it may be none.
    if (request_.manifest.ok()) request_.manifest = AddTensor();
    return true;
  }

  // Adds the tensor whose message is next and moves past it, if that is plain and of the last one's dtype: most are.
  bool AddPlainTensor(uint64_t bytes) {
    std::vector<TensorSpec>& tensors = request_.tensors;
    if (tensors.empty() || !request_.manifest.ok()) return false;
    const uint8_t* const message = cursor_.PeekContiguous(bytes);
    if (message == nullptr || !plain_.Read(message, bytes) || plain_.dtype != DTypeName(tensors.back().dtype)) {
      return false;
    }
    cursor_.Advance(bytes);
    // The second tells how many there probably are.
    if (tensors.size() == 1) tensors.reserve(2 + cursor_.remaining() / std::max(bytes + 2, kLeastBytesReservedFor));
    TensorSpec& spec = tensors.emplace_back();
    spec.name.assign(plain_.name.data(), plain_.name.size());
    spec.dtype = parsed_dtype_;
    spec.shape.assign(plain_.shape.begin(), plain_.shape.end());
    return true;
  }

  bool ReadTensorField(uint32_t tag) {
    switch (tag) {
      case MakeTag(kName, kLengthDelimited):
        return ReadText(cursor_, &name_);
      case MakeTag(kDType, kLengthDelimited):
        return ReadText(cursor_, &dtype_);
      case MakeTag(kShape, kLengthDelimited):
        return ReadPackedShape();
      case MakeTag(kShape, kVarint):
        return ReadDimension();
      default:
        return cursor_.SkipValue(tag);
    }
  }

  bool ReadPackedShape() {
    uint64_t length = 0;
    if (!cursor_.ReadLength(&length)) return false;
    const uint64_t remaining_after = cursor_.remaining() - length;
    while (cursor_.remaining() > remaining_after) {
      if (!ReadDimension()) return false;
    }
    return cursor_.remaining() == remaining_after || cursor_.Fail("a packed entry runs past the field's length");
  }

  bool ReadDimension() {
    uint64_t dimension = 0;
    if (!cursor_.ReadVarint(&dimension)) return false;
    if (++dimensions_ <= kMaxTensorRank) shape_.push_back(dimension);
    return true;
  }

  absl::Status AddTensor() {
    // Most have the dtype of the one before.
    if (request_.tensors.empty() || dtype_ != DTypeName(request_.tensors.back().dtype)) {
      const absl::StatusOr<DType> dtype = ParseDType(dtype_);
      if (!dtype.ok()) {
        return absl::InvalidArgumentError(
            absl::StrCat("tensor \"", Printable(name_), "\": ", dtype.status().message()));
      }
      parsed_dtype_ = *dtype;
    }
    if (dimensions_ > kMaxTensorRank) {
      return absl::InvalidArgumentError(absl::StrCat("tensor \"", Printable(name_), "\": the shape has ", dimensions_,
                                                     " dimensions; at most ", kMaxTensorRank,
                                                     " are allowed: flatten some"));
    }
    request_.tensors.push_back({std::move(name_), parsed_dtype_, Shape(shape_.begin(), shape_.end())});
    return absl::OkStatus();
  }

  // Copies a field to others_, as it is. What no field of ours has (groups, fixed sizes) the generated code would skip
  // as well, once it has seen that it is well formed.
  bool KeepField(uint32_t tag) {
    uint8_t number[10];
    const auto keep_varint = [&](uint64_t value) {
      others_.append(reinterpret_cast<const char*>(number), static_cast<size_t>(PutVarint(value, number) - number));
    };
    uint64_t value = 0;
    switch (WireTypeOf(tag)) {
      case kVarint:
        if (!cursor_.ReadVarint(&value)) return false;
        keep_varint(tag);
        keep_varint(value);
        return true;
      case kLengthDelimited:
        if (!cursor_.ReadLength(&value)) return false;
        keep_varint(tag);
        keep_varint(value);
        cursor_.ReadString(value, &text_);
        others_ += text_;
        return true;
      default:
        return cursor_.SkipValue(tag);
    }
  }

  WireCursor cursor_;
  BeginRequest& request_;
  PlainTensor plain_;
  // Of the tensor that is read, where it is not plain.
  std::string name_;
  std::string dtype_;
  absl::InlinedVector<uint64_t, 8> shape_;
  // Also those that are too many.
  size_t dimensions_ = 0;
  // Of the last tensor.
  DType parsed_dtype_ = DType::kU8;
  std::string others_;
  std::string text_;
};

// ---- Encoding -------------------------------------------------------------------------------------------------------

struct TensorSizes {
  size_t packed_shape = 0;
  size_t message = 0;
};

TensorSizes SizesOf(const TensorSpec& spec) {
  TensorSizes sizes;
  for (const uint64_t dimension : spec.shape) sizes.packed_shape += VarintBytes(dimension);
  sizes.message = TextFieldBytes(spec.name) + TextFieldBytes(DTypeName(spec.dtype));
  if (!spec.shape.empty()) sizes.message += 1 + VarintBytes(sizes.packed_shape) + sizes.packed_shape;
  return sizes;
}

uint8_t* PutTensor(const TensorSpec& spec, uint8_t* out) {
  const TensorSizes sizes = SizesOf(spec);
  out = PutVarint(MakeTag(kTensors, kLengthDelimited), out);
  out = PutVarint(sizes.message, out);
  out = PutTextField(kName, spec.name, out);
  out = PutTextField(kDType, DTypeName(spec.dtype), out);
  if (spec.shape.empty()) return out;
  out = PutVarint(MakeTag(kShape, kLengthDelimited), out);
  out = PutVarint(sizes.packed_shape, out);
  for (const uint64_t dimension : spec.shape) out = PutVarint(dimension, out);
  return out;
}

}  // namespace

grpc::Slice EncodeManifest(absl::Span<const TensorSpec> tensors, absl::Span<const uint32_t> order) {
  size_t bytes = 0;
  for (const uint32_t tensor : order) {
    const size_t message = SizesOf(tensors[tensor]).message;
    bytes += 1 + VarintBytes(message) + message;
  }
  const grpc::Slice manifest(bytes);
  // gRPC has no mutable access, but nobody else holds the slice yet.
  auto* out = const_cast<uint8_t*>(manifest.begin());
  for (const uint32_t tensor : order) out = PutTensor(tensors[tensor], out);
  return manifest;
}

grpc::ByteBuffer EncodeBeginRequest(const v1::BeginUpdateRequest& fields, const grpc::Slice& manifest) {
  const grpc::Slice slices[] = {grpc::Slice(fields.SerializeAsString()), manifest};
  return grpc::ByteBuffer(slices, manifest.size() == 0 ? 1 : 2);
}

bool ParseBeginRequest(const grpc::ByteBuffer& message, BeginRequest& request, const FindKnownManifest& known) {
  request = BeginRequest();
  std::vector<grpc::Slice> slices;
  if (!message.Valid() || message.Length() > kMaxWireBytes || !message.Dump(&slices).ok()) return false;
  return Reader(slices, request).Read(known);
}

}  // namespace weightstream
