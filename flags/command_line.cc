#include "flags/command_line.h"

#include <algorithm>
#include <cassert>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "tensor/text.h"

namespace weightstream {
namespace {

// The help stays readable on the narrowest terminal that is common.
constexpr size_t kHelpColumns = 80;

const FlagSpec* FindFlag(const CommandSpec& spec, absl::string_view name) {
  for (const FlagSpec& flag : spec.flags) {
    if (flag.name == name) return &flag;
  }
  return nullptr;
}

// Whom an error is about.
const std::string& Subject(const CommandSpec& spec) { return spec.name.empty() ? spec.program : spec.name; }

bool IsHelp(absl::string_view argument) { return argument == "--help" || argument == "-h"; }

// The arguments up to "--", all of which may be flags.
absl::Span<const std::string> BeforeSeparator(absl::Span<const std::string> arguments) {
  const auto end = std::find(arguments.begin(), arguments.end(), "--");
  return arguments.first(end - arguments.begin());
}

}  // namespace

class CommandLineParser {
 public:
  CommandLineParser(const CommandSpec& spec, absl::Span<const std::string> arguments)
      : spec_(spec), arguments_(arguments), line_(spec) {}

  absl::StatusOr<CommandLine> Parse() {
    const absl::Span<const std::string> flags = BeforeSeparator(arguments_);
    if (std::any_of(flags.begin(), flags.end(), IsHelp)) {
      line_.help_ = true;
      return line_;
    }
    while (next_ < arguments_.size()) {
      if (absl::Status status = TakeArgument(); !status.ok()) return status;
    }
    if (absl::Status status = CheckWhole(); !status.ok()) return status;
    return line_;
  }

 private:
  absl::Status TakeArgument() {
    const std::string& argument = arguments_[next_++];
    if (flags_ended_ || argument == "-" || !absl::StartsWith(argument, "-")) return TakePositional(argument);
    if (argument == "--") {
      flags_ended_ = true;
      return absl::OkStatus();
    }
    return TakeFlag(argument);
  }

  absl::Status TakePositional(const std::string& argument) {
    if (spec_.positional.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("unexpected argument \"", Printable(argument), "\": ", Subject(spec_), " takes flags only"));
    }
    if (argument.empty()) return absl::InvalidArgumentError(absl::StrCat(spec_.positional, " is empty"));
    if (has_positional_) {
      return absl::InvalidArgumentError(absl::StrCat("unexpected argument \"", Printable(argument),
                                                     "\": ", Subject(spec_), " takes one ", spec_.positional,
                                                     ", and \"", Printable(line_.positional_), "\" was given already"));
    }
    has_positional_ = true;
    line_.positional_ = argument;
    return absl::OkStatus();
  }

  absl::Status TakeFlag(absl::string_view argument) {
    const size_t equals = argument.find('=');
    const absl::string_view dashed = argument.substr(0, equals);
    const FlagSpec* flag = absl::StartsWith(dashed, "--") ? FindFlag(spec_, dashed.substr(2)) : nullptr;
    if (flag == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat("unknown flag ", Printable(dashed), " for ", Subject(spec_)));
    }
    if (line_.Has(flag->name)) return absl::InvalidArgumentError(absl::StrCat(dashed, " is given twice; give it once"));
    CommandLine::Value value;
    if (equals != absl::string_view::npos) {
      value.text = std::string(argument.substr(equals + 1));
    } else if (flag->kind == FlagKind::kSwitch) {
      value.text = "true";
    } else if (absl::Status status = TakeNextAsValue(*flag, value.text); !status.ok()) {
      return status;
    }
    if (absl::Status status = Interpret(*flag, value); !status.ok()) return status;
    line_.values_.emplace(flag->name, std::move(value));
    return absl::OkStatus();
  }

  // A value that looks like a flag is far more often a forgotten value: it must be written with '='.
  absl::Status TakeNextAsValue(const FlagSpec& flag, std::string& text) {
    if (next_ == arguments_.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("--", flag.name, " wants a value: --", flag.name, "=", flag.value));
    }
    text = arguments_[next_++];
    if (!absl::StartsWith(text, "--")) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("--", flag.name, " wants a value, but ", Printable(text),
                                                   " follows: write --", flag.name, "=", flag.value));
  }

  static absl::Status Interpret(const FlagSpec& flag, CommandLine::Value& value) {
    if (value.text.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("--", flag.name, " is empty: write --", flag.name, "=", flag.value));
    }
    switch (flag.kind) {
      case FlagKind::kText:
        return CheckText(flag.name, value.text, flag.check);
      case FlagKind::kList:
        return Store(ParseList(flag.name, value.text, flag.check), value.items);
      case FlagKind::kSwitch:
        return Store(ParseSwitch(flag.name, value.text), value.on);
      case FlagKind::kNumber:
        return Store(ParseNumber(flag.name, value.text, flag.least, flag.most), value.number);
      case FlagKind::kDecimal:
        return Store(ParseDecimal(flag.name, value.text, flag.most), value.decimal);
    }
    return absl::InternalError(absl::StrCat("--", flag.name, " has no kind"));
  }

  template <typename T>
  static absl::Status Store(absl::StatusOr<T> parsed, T& place) {
    if (!parsed.ok()) return parsed.status();
    place = *std::move(parsed);
    return absl::OkStatus();
  }

  absl::Status CheckWhole() const {
    if (!spec_.positional.empty() && !has_positional_) {
      return absl::InvalidArgumentError(absl::StrCat(spec_.positional, " is missing"));
    }
    for (const FlagSpec& flag : spec_.flags) {
      if (!flag.required || line_.Has(flag.name)) continue;
      return absl::InvalidArgumentError(absl::StrCat("--", flag.name, "=", flag.value, " is missing"));
    }
    for (const auto& [one, other] : spec_.exclusive) {
      if (!line_.Has(one) || !line_.Has(other)) continue;
      return absl::InvalidArgumentError(absl::StrCat("--", one, " and --", other, " contradict each other; give one"));
    }
    for (const auto& [one, other] : spec_.needs) {
      if (!line_.Has(one) || line_.Has(other)) continue;
      return absl::InvalidArgumentError(absl::StrCat("--", one, " wants --", other, " beside it"));
    }
    return absl::OkStatus();
  }

  const CommandSpec& spec_;
  const absl::Span<const std::string> arguments_;
  size_t next_ = 0;
  bool flags_ended_ = false;
  bool has_positional_ = false;
  CommandLine line_;
};

const CommandLine::Value* CommandLine::Find(absl::string_view flag) const {
  assert(FindFlag(*spec_, flag) != nullptr && "the command's table has no such flag");
  const auto found = values_.find(flag);
  return found == values_.end() ? nullptr : &found->second;
}

bool CommandLine::Has(absl::string_view flag) const { return Find(flag) != nullptr; }

bool CommandLine::Switch(absl::string_view flag) const {
  const Value* value = Find(flag);
  return value != nullptr && value->on;
}

std::string CommandLine::Text(absl::string_view flag) const {
  const Value* value = Find(flag);
  return value == nullptr ? std::string() : value->text;
}

const std::vector<std::string>& CommandLine::List(absl::string_view flag) const {
  static const std::vector<std::string> kNone;
  const Value* value = Find(flag);
  return value == nullptr ? kNone : value->items;
}

uint64_t CommandLine::Number(absl::string_view flag, uint64_t otherwise) const {
  const Value* value = Find(flag);
  return value == nullptr ? otherwise : value->number;
}

double CommandLine::Decimal(absl::string_view flag, double otherwise) const {
  const Value* value = Find(flag);
  return value == nullptr ? otherwise : value->decimal;
}

absl::StatusOr<CommandLine> ParseCommandLine(const CommandSpec& spec, absl::Span<const std::string> arguments) {
  return CommandLineParser(spec, arguments).Parse();
}

bool AsksForJson(absl::Span<const std::string> arguments) {
  const absl::Span<const std::string> flags = BeforeSeparator(arguments);
  return std::any_of(flags.begin(), flags.end(),
                     [](absl::string_view argument) { return argument == "--json" || argument == "--json=true"; });
}

namespace {

std::string FlagSynopsis(const FlagSpec& flag) {
  return flag.value.empty() ? absl::StrCat("--", flag.name) : absl::StrCat("--", flag.name, "=", flag.value);
}

// `text` broken at spaces so that each line, behind `indent` spaces, stays within the columns.
void AppendWrapped(absl::string_view text, size_t indent, std::string& out) {
  size_t column = 0;
  for (absl::string_view word : absl::StrSplit(text, ' ', absl::SkipEmpty())) {
    if (column != 0 && column + 1 + word.size() > kHelpColumns) {
      out += '\n';
      column = 0;
    }
    if (column == 0) {
      out.append(indent, ' ');
      column = indent;
    } else {
      out += ' ';
      ++column;
    }
    absl::StrAppend(&out, word);
    column += word.size();
  }
  out += '\n';
}

void AppendUsage(const CommandSpec& spec, std::string& out) {
  std::vector<std::string> words = {spec.program};
  if (!spec.name.empty()) words.push_back(spec.name);
  if (!spec.positional.empty()) words.push_back(spec.positional);
  for (const FlagSpec& flag : spec.flags) {
    if (flag.required) words.push_back(FlagSynopsis(flag));
  }
  words.emplace_back("[FLAG...]");
  AppendWrapped(absl::StrCat("Usage: ", absl::StrJoin(words, " ")), 0, out);
}

}  // namespace

std::string HelpText(const CommandSpec& spec) {
  std::string out;
  AppendUsage(spec, out);
  out += '\n';
  for (absl::string_view paragraph : absl::StrSplit(spec.description, '\n')) AppendWrapped(paragraph, 0, out);
  out += "\nFlags:\n";
  for (const FlagSpec& flag : spec.flags) {
    absl::StrAppend(&out, "  ", FlagSynopsis(flag), flag.required ? "  (required)" : "", "\n");
    AppendWrapped(flag.help, 6, out);
  }
  out += "  --help\n      Shows this page.\n\n";
  absl::StrAppend(&out, spec.examples.size() == 1 ? "Example:\n" : "Examples:\n");
  for (const std::string& example : spec.examples) absl::StrAppend(&out, "  ", example, "\n");
  out += "\nExit codes:\n";
  for (const auto& [code, meaning] : {std::pair<int, std::string>{0, spec.done}, {1, spec.failed}, {2, "bad usage"}}) {
    AppendWrapped(absl::StrCat(code, " ", meaning), 2, out);
  }
  return out;
}

}  // namespace weightstream
