#include "client/command/verify_report.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "client/command/formatting.h"

namespace weightstream::command {
namespace {

// Nothing where all is held as it was pushed.
std::string HeldText(const VerifyResult& result) {
  std::string out;
  if (result.converted_tensors > 0) {
    absl::StrAppend(&out, "  ", result.converted_tensors,
                    " of them as the registered targets hold them: cut or cast\n");
  }
  if (result.not_held_tensors > 0) {
    absl::StrAppend(&out, "  ", result.not_held_tensors, " of them in no registered target: not compared\n");
  }
  return out;
}

}  // namespace

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
  const std::string held = HeldText(result);
  if (result.differing_tensors > 0) {
    report.text += held;
    report.status = absl::DataLossError(absl::StrCat(server, ": version ", result.version, " of ", model,
                                                     " differs in ", result.differing_tensors,
                                                     result.differing_tensors == 1 ? " tensor" : " tensors"));
  } else {
    report.text = absl::StrCat(server, ": version ", result.version, ", ", result.tensors, " tensors, ",
                               FormatBytes(result.total_bytes), ": every checksum is equal\n", held);
  }
  report.json = {{"model", model},
                 {"version", result.version},
                 {"total_bytes", result.total_bytes},
                 {"tensors", result.tensors},
                 {"converted_tensors", result.converted_tensors},
                 {"not_held_tensors", result.not_held_tensors},
                 {"equal", result.differing_tensors == 0},
                 {"differing_tensors", result.differing_tensors},
                 {"differences", std::move(differences)}};
  return report;
}

}  // namespace weightstream::command
