#include "client/command/verify_report.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "client/command/formatting.h"

namespace weightstream::command {

ServerReport ReportVerify(const std::string& server, const std::string& model, const VerifyResult& result) {
  ServerReport report;
  report.server = server;
  Json differences = Json::array();
  for (const Difference& difference : result.differences) {
    differences.push_back({{"tensor", difference.tensor}, {"what", difference.what}});
    absl::StrAppend(&report.text, OneLine(difference.tensor), ": ", OneLine(difference.what), "\n");
  }
  if (result.differing_tensors > result.differences.size()) {
    absl::StrAppend(&report.text, "and ", result.differing_tensors - result.differences.size(), " more\n");
  }
  if (result.differing_tensors > 0) {
    report.status = absl::DataLossError(absl::StrCat(server, ": version ", result.version, " of ", model,
                                                     " differs in ", result.differing_tensors,
                                                     result.differing_tensors == 1 ? " tensor" : " tensors"));
  } else {
    report.text = absl::StrCat(server, ": version ", result.version, ", ", result.tensors, " tensors, ",
                               FormatBytes(result.total_bytes), ": every checksum is equal\n");
  }
  report.json = {{"model", model},
                 {"version", result.version},
                 {"total_bytes", result.total_bytes},
                 {"tensors", result.tensors},
                 {"equal", result.differing_tensors == 0},
                 {"differing_tensors", result.differing_tensors},
                 {"differences", std::move(differences)}};
  return report;
}

}  // namespace weightstream::command
