#include "kernels/cuda/cuda_target.h"

#include "absl/strings/str_cat.h"

namespace weightstream {

absl::Status CudaTarget::CheckInside(ByteRange range, absl::string_view action) const {
  if (range.begin <= range.end && range.end <= bytes_) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(context_->name(), ": cannot ", action, " bytes ", range.begin, " to ",
                                          range.end, " of a target that has ", bytes_,
                                          "; this is a defect of the program"));
}

}  // namespace weightstream
