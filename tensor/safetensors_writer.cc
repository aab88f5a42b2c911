#include "tensor/safetensors_writer.h"

#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"

namespace weightstream {

SafetensorsWriter::SafetensorsWriter(std::string path, std::unique_ptr<AtomicFile> file, SafetensorsLayout layout)
    : path_(std::move(path)), file_(std::move(file)), layout_(std::move(layout)) {}

absl::StatusOr<std::unique_ptr<SafetensorsWriter>> SafetensorsWriter::Create(const std::string& path,
                                                                             SafetensorsLayout layout) {
  const std::string header = EncodeSafetensorsHeader(layout);
  // The file must be one that its readers accept, whatever the layout was made of.
  const absl::StatusOr<SafetensorsLayout> reread = ParseSafetensors(path, header, layout.file_bytes());
  if (!reread.ok()) return reread.status();
  if (*reread != layout) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": the layout does not describe its own file; make it with LayOutSafetensors"));
  }
  absl::StatusOr<std::unique_ptr<AtomicFile>> file = AtomicFile::Create(path, layout.file_bytes());
  if (!file.ok()) return file.status();
  if (absl::Status status = (*file)->Write(0, header); !status.ok()) return status;
  return std::unique_ptr<SafetensorsWriter>(new SafetensorsWriter(path, *std::move(file), std::move(layout)));
}

absl::Status SafetensorsWriter::Write(uint64_t offset, absl::string_view bytes) {
  if (offset > layout_.data_bytes || bytes.size() > layout_.data_bytes - offset) {
    return absl::OutOfRangeError(absl::StrCat(path_, ": ", bytes.size(), " bytes at ", offset,
                                              " do not fit into its data section of ", layout_.data_bytes, " bytes"));
  }
  return file_->Write(layout_.data_start + offset, bytes);
}

absl::Status SafetensorsWriter::Finish() { return file_->Publish(); }

absl::Status WriteSafetensors(const std::string& path, absl::Span<const TensorData> tensors, Metadata metadata) {
  std::vector<TensorSpec> specs;
  specs.reserve(tensors.size());
  absl::flat_hash_map<absl::string_view, absl::string_view> data_of;
  for (const TensorData& tensor : tensors) {
    if (absl::Status status = CheckTensorData(tensor); !status.ok()) return status;
    specs.push_back(tensor.spec);
    data_of.emplace(tensor.spec.name, tensor.data);
  }
  absl::StatusOr<SafetensorsLayout> layout = LayOutSafetensors(specs, std::move(metadata));
  if (!layout.ok()) return layout.status();
  const absl::StatusOr<std::unique_ptr<SafetensorsWriter>> writer = SafetensorsWriter::Create(path, *std::move(layout));
  if (!writer.ok()) return writer.status();
  for (const PlacedTensor& tensor : (*writer)->layout().tensors) {
    const absl::Status status = (*writer)->Write(tensor.range.begin, data_of.at(tensor.spec.name));
    if (!status.ok()) return status;
  }
  return (*writer)->Finish();
}

absl::Status CheckTensorData(const TensorData& tensor) {
  const absl::StatusOr<uint64_t> bytes = TensorByteSize(tensor.spec);
  if (!bytes.ok()) return bytes.status();
  if (*bytes == tensor.data.size()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "tensor \"", Printable(tensor.spec.name), "\": ", tensor.data.size(), " bytes of data were given for ",
      ShapeString(tensor.spec.dtype, tensor.spec.shape), ", which takes ", *bytes));
}

}  // namespace weightstream
