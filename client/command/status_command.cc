// weightstream status: what servers hold, what is in flight.
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/command/command.h"
#include "client/command/common_flags.h"
#include "client/command/find_servers.h"
#include "client/command/formatting.h"
#include "client/command/model_json.h"
#include "client/command/model_service.h"
#include "client/command/report.h"
#include "client/command/signals.h"
#include "client/command/status_text.h"

namespace weightstream::command {
namespace {

using ModelsOrStatus = absl::StatusOr<v1::ListModelsResponse>;

const CommandSpec& Spec() {
  static const CommandSpec& spec = *new CommandSpec{
      .program = "weightstream",
      .name = "status",
      .summary = "Shows what servers hold and what is in flight",
      .description =
          "Shows each server's models: the current version, the versions held, the bytes and the age of the current "
          "one, and the update in flight (its version, its state, how far it is, its mean rate and the time left). "
          "With --model also the files, the commit hook, and the last updates that ended, with the reason.",
      .examples = {"weightstream status --to=10.0.0.5:7070,10.0.0.6:7070",
                   "weightstream status --to=dns:///weightstream:7070",
                   "weightstream status --to=localhost:7070 --model=llama --json"},
      .flags = WithSecurityFlags({ServersFlag("to", "The servers."), ModelFlag(false, "Only this model, in detail."),
                                  ConnectOnceSecondsFlag(), JsonFlag()}),
      .needs = WithSecurityNeeds(),
      .done = "every server answered (and has the model), and no device has failed",
      .failed = "a server did not, or its device has failed; what the others said is shown",
  };
  return spec;
}

// What each server is asked, and how.
struct Question {
  // Empty for all models.
  std::string model;
  TimeLimits limits;
  Security security;
};

ModelsOrStatus Ask(const std::string& server, const Question& question) {
  const std::string& model = question.model;
  ModelService service(server, question.limits, question.security, Interrupted);
  if (model.empty()) return service.List();
  absl::StatusOr<v1::Model> state = service.Get(model);
  if (!state.ok()) return state.status();
  v1::ListModelsResponse one;
  one.set_device(state->device());
  one.set_device_error(state->device_error());
  *one.add_models() = *std::move(state);
  return one;
}

// Of one server: its error, or that of its device, after which it answers and does nothing else. Liveness probes rest
// on it where Kubernetes' own cannot ask: under TLS.
absl::Status Soundness(const ModelsOrStatus& answer) {
  if (!answer.ok()) return answer.status();
  const auto failed = [](const std::string& device, const std::string& error) {
    return absl::FailedPreconditionError(absl::StrCat("its device ", OneLine(device), " has failed: ", OneLine(error)));
  };
  if (!answer->device_error().empty()) return failed(answer->device(), answer->device_error());
  // A server that tells of its device with its models alone.
  for (const v1::Model& model : answer->models()) {
    if (!model.device_error().empty()) return failed(model.device(), model.device_error());
  }
  return absl::OkStatus();
}

std::vector<ModelsOrStatus> AskAll(const std::vector<std::string>& servers, const Question& question) {
  std::vector<ModelsOrStatus> answers(servers.size(), absl::UnknownError("not asked"));
  OnEachServer(servers.size(), [&](size_t i) { answers[i] = Ask(servers[i], question); });
  return answers;
}

Json AnswerJson(const std::string& server, const ModelsOrStatus& answer) {
  Json json = {{"server", server}};
  json.update(OutcomeJson(answer.status()));
  json["device"] = answer.ok() ? answer->device() : "";
  json["device_error"] = answer.ok() ? answer->device_error() : "";
  json["models"] = Json::array();
  if (answer.ok()) {
    for (const v1::Model& model : answer->models()) json["models"].push_back(ModelJson(model));
  }
  return json;
}

// Of one model.
std::string DetailText(const ModelsOrStatus& answer) {
  if (!answer.ok()) {
    return absl::StrCat(absl::StatusCodeToString(answer.status().code()), ": ", OneLine(answer.status().message()),
                        "\n");
  }
  return ModelDetail(answer->models(0), absl::Now());
}

std::string AnswersText(const std::vector<std::string>& servers, const std::vector<ModelsOrStatus>& answers,
                        bool detail) {
  // With one server its error is the command's own.
  if (servers.size() == 1 && !answers[0].ok()) return "";
  if (servers.size() == 1) return detail ? DetailText(answers[0]) : ModelsTable(*answers[0], absl::Now());
  std::string text;
  std::vector<ServerModels> fleet;
  for (size_t i = 0; i < servers.size(); ++i) {
    if (detail) absl::StrAppend(&text, i == 0 ? "" : "\n", servers[i], "\n", DetailText(answers[i]));
    fleet.push_back({servers[i], answers[i]});
  }
  return detail ? text : FleetTable(fleet, absl::Now());
}

int Run(const CommandLine& line) {
  constexpr char kRemedy[] = "run the same command again";
  Question question{.model = line.Text("model"), .limits = TimeLimitsFrom(line), .security = SecurityFrom(line)};
  Report report;
  Json list = Json::array();
  const absl::StatusOr<std::vector<std::string>> found =
      FindServers(line.List("to"), question.limits.connect, question.security);
  if (!found.ok()) {
    report.json = {{"servers", std::move(list)}};
    report.status = OrInterrupted(found.status(), kRemedy);
    return Finish(report, line.Switch("json"));
  }
  const std::vector<std::string>& servers = *found;
  const std::vector<ModelsOrStatus> answers = AskAll(servers, question);
  for (size_t i = 0; i < servers.size(); ++i) {
    if (const absl::Status sound = Soundness(answers[i]); !sound.ok() && report.status.ok()) {
      report.status = absl::Status(sound.code(), absl::StrCat(servers[i], ": ", sound.message()));
    }
    list.push_back(AnswerJson(servers[i], answers[i]));
  }
  report.text = AnswersText(servers, answers, !question.model.empty());
  report.json = {{"servers", std::move(list)}};
  report.status = OrInterrupted(report.status, kRemedy);
  return Finish(report, line.Switch("json"));
}

}  // namespace

Command StatusCommand() { return {Spec(), Run}; }

}  // namespace weightstream::command
