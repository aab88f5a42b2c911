// What a program, or one command of it, takes, as a table; and the parser and the help text that follow from the table.
//
//   const CommandSpec kPush = {.program = "weightstream", .name = "push", .positional = "PATH", .flags = {{.name =
//   "to", ...}}}; absl::StatusOr<CommandLine> line = ParseCommandLine(kPush, arguments);
//
// Abseil's flags are one set for the process, named as C++ identifiers; here each command has its own, with dashes, so
// that an unknown or misplaced flag is an error and --help lists what the command takes and nothing else. Everything
// here is pure and may be called from any thread.
#ifndef WEIGHTSTREAM_FLAGS_COMMAND_LINE_H_
#define WEIGHTSTREAM_FLAGS_COMMAND_LINE_H_

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "flags/flag_value.h"

namespace weightstream {

enum class FlagKind {
  kSwitch,   // --name, --name=true or --name=false
  kText,     // any text that is not empty and passes `check`
  kList,     // one or more such texts, separated by commas, none twice
  kNumber,   // a whole number within [least, most]
  kDecimal,  // digits with at most one point, above 0 and at most `most`
};

// The braces in these tables keep designated initialisers that leave members out free of warnings.
struct FlagSpec {
  // Without the dashes.
  std::string name{};
  FlagKind kind = FlagKind::kText;
  // What stands for the value in the help: "NAME", "ADDR[,ADDR...]". Empty for a switch.
  std::string value{};
  std::string help{};
  bool required = false;
  uint64_t least = 0;
  uint64_t most = std::numeric_limits<uint64_t>::max();
  // For kText and kList: what else a text must be. Empty takes everything.
  TextCheck check{};
};

struct CommandSpec {
  std::string program{};
  // The command's name, where the program has several; empty for a program of one purpose.
  std::string name{};
  // The one positional argument, which is then required: "PATH". Empty if the command takes none.
  std::string positional{};
  std::string summary{};
  std::string description{};
  // Lines of a shell, without the prompt.
  std::vector<std::string> examples{};
  std::vector<FlagSpec> flags{};
  // Pairs of flags of which at most one may be given.
  std::vector<std::pair<std::string, std::string>> exclusive{};
  // Pairs of flags of which the first is of no use without the second.
  std::vector<std::pair<std::string, std::string>> needs{};
  // What the exit codes 0 and 1 mean here.
  std::string done{}, failed{};
};

// The arguments of one command, checked against its table. An accessor that names a flag which the table lacks, or one
// of another kind, is a programmer's error and asserted.
class CommandLine {
 public:
  // `spec` must outlive the line.
  explicit CommandLine(const CommandSpec& spec) : spec_(&spec) {}

  // True if --help was among the arguments; then nothing else was checked.
  bool help() const { return help_; }
  const std::string& positional() const { return positional_; }

  bool Has(absl::string_view flag) const;
  bool Switch(absl::string_view flag) const;
  // Empty where the flag was not given.
  std::string Text(absl::string_view flag) const;
  const std::vector<std::string>& List(absl::string_view flag) const;
  uint64_t Number(absl::string_view flag, uint64_t otherwise) const;
  double Decimal(absl::string_view flag, double otherwise) const;

 private:
  friend class CommandLineParser;

  struct Value {
    std::string text;
    std::vector<std::string> items;
    uint64_t number = 0;
    double decimal = 0;
    bool on = false;
  };

  const Value* Find(absl::string_view flag) const;

  const CommandSpec* spec_;
  bool help_ = false;
  std::string positional_;
  std::map<std::string, Value, std::less<>> values_;
};

// Flags may stand before and after the positional argument, as --flag=value or as --flag value; "--" ends them.
// INVALID_ARGUMENT names the argument, what is wrong with it and what is expected. `spec` must outlive the result.
absl::StatusOr<CommandLine> ParseCommandLine(const CommandSpec& spec, absl::Span<const std::string> arguments);

// Whether the arguments ask for JSON: known also where they do not parse, so that a usage error can be told as JSON
// too.
bool AsksForJson(absl::Span<const std::string> arguments);

// The page that --help shows; it ends with a line feed.
std::string HelpText(const CommandSpec& spec);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_FLAGS_COMMAND_LINE_H_
