// tandem route, tandem canary.
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <boost/json.hpp>

#include "app/admin_client.h"
#include "app/configuration.h"
#include "app/explain.h"
#include "cli/command.h"
#include "os/paths.h"

namespace tandem::cli {
namespace {

namespace json = boost::json;

struct ExplainFlags {
  app::ExplainQuestion question;
  std::string config;
  bool as_json = false;
  DataDirOption data_dir;
};

std::string Milliseconds(const std::optional<double>& value) {
  return value ? fmt::format("{:.0f}", *value) : "?";
}

Status Explain(const ExplainFlags& flags) {
  app::Configuration configuration = app::ShippedConfiguration();
  if (!flags.config.empty()) {
    TANDEM_ASSIGN_OR_RETURN(configuration, app::LoadConfiguration(flags.config));
  }
  TANDEM_ASSIGN_OR_RETURN(const auto data_dir, flags.data_dir.Get());
  TANDEM_ASSIGN_OR_RETURN(const gateway::DecisionRecord record,
                          app::ExplainRoute(configuration, data_dir, flags.question));
  if (flags.as_json) return Print(gateway::DecisionRecordJson(record) + "\n");
  const gateway::Decision& decision = record.decision;
  TANDEM_RETURN_IF_ERROR(Print(fmt::format(
      "strategy {}: task {} ({}){}, about {} prompt tokens, mode {}, privacy {}\n\n",
      record.strategy, gateway::TaskClassName(record.facts.task), record.task_reason,
      record.facts.complex_reasoning ? ", complex reasoning" : "", record.facts.prompt_tokens,
      gateway::ModeName(decision.mode), gateway::PrivacyName(decision.privacy))));
  std::vector<std::vector<std::string>> rows;
  for (const gateway::Candidate& candidate : decision.candidates) {
    rows.push_back(
        {std::to_string(rows.size() + 1), candidate.target, candidate.reason,
         Milliseconds(candidate.predicted_ttft_ms), Milliseconds(candidate.predicted_e2e_ms),
         fmt::format("{:.6f}", candidate.predicted_cost_usd), candidate.redact ? "yes" : "no"});
  }
  if (rows.empty()) {
    TANDEM_RETURN_IF_ERROR(Print(fmt::format("refused: {}\n", decision.failure_message)));
  } else {
    TANDEM_RETURN_IF_ERROR(PrintTable(
        {"", "CANDIDATE", "REASON", "TTFT MS", "TOTAL MS", "COST USD", "REDACTED"}, rows));
  }
  if (const auto& cascade = record.cascade) {
    TANDEM_RETURN_IF_ERROR(
        Print(fmt::format("\nthe first {} tokens of {} (or those of {:.0f} ms) are shown if {}\n",
                          cascade->tokens, fmt::join(cascade->targets, ", "), cascade->hold_ms,
                          cascade->min_probability
                              ? fmt::format("the answer is right with a probability of {} or more",
                                            *cascade->min_probability)
                              : fmt::format("their mean log probability is {} or more",
                                            cascade->min_mean_logprob.value_or(0)))));
  }
  if (decision.rejections.empty()) return {};
  rows.clear();
  for (const gateway::Rejection& rejection : decision.rejections) {
    rows.push_back({rejection.target, rejection.reason, rejection.detail});
  }
  TANDEM_RETURN_IF_ERROR(Print("\n"));
  return PrintTable({"REJECTED", "REASON", "WHAT WOULD CHANGE IT"}, rows);
}

struct AdminFlags {
  app::AdminAddress address;
  bool as_json = false;
  // of canary start
  std::string id;
  std::string target;
  std::string baseline;
  std::vector<double> steps;
  int min_step_seconds = 0;
  int step_seconds = 0;
  int bake_seconds = 0;
  bool completely = false;
  std::string request_id;

  void Add(CLI::App* command) {
    command->add_option("--url", address.url, "The server (http://127.0.0.1:7070)");
    command->add_flag("--json", as_json, "Print the server's JSON");
  }
  Result<std::string> Call(std::string_view method, std::string_view path,
                           std::string body = {}) const {
    app::AdminAddress with_key = address;
    with_key.key = os::GetEnv("TANDEM_ADMIN_KEY").value_or("");
    return app::CallAdmin(with_key, method, path, std::move(body));
  }
};

double NumberIn(const json::object& object, std::string_view name) {
  const json::value* const value = object.if_contains(name);
  return value != nullptr && value->is_number() ? value->to_number<double>() : 0;
}

// One arm of a roll-out, as the server's JSON has it.
std::vector<std::string> ArmRow(std::string name, const json::object& arm) {
  const auto percent = [&](std::string_view field) {
    return fmt::format("{:.2f} %", 100 * NumberIn(arm, field));
  };
  const auto quantiles = [&](std::string_view field) -> std::string {
    const json::value* const value = arm.if_contains(field);
    const json::object* const object = value == nullptr ? nullptr : value->if_object();
    if (object == nullptr) return "?";
    return fmt::format("{:.0f}, {:.0f}, {:.0f}", NumberIn(*object, "p50"), NumberIn(*object, "p95"),
                       NumberIn(*object, "p99"));
  };
  return {std::move(name),
          fmt::format("{:.0f}", NumberIn(arm, "samples")),
          percent("error_share"),
          percent("degenerate_share"),
          percent("engagement_share"),
          quantiles("ttft_ms"),
          quantiles("total_ms")};
}

Status PrintCanary(const AdminFlags& flags, const std::string& text) {
  if (flags.as_json) return Print(text + "\n");
  boost::system::error_code error;
  const json::value value = json::parse(text, error);
  const json::object* canary = value.if_object();
  if (error || canary == nullptr) return Err(ErrorCode::kCorrupt, "the server sent no JSON");
  std::vector<std::vector<std::string>> rows;
  std::vector<std::vector<std::string>> arms;
  for (const json::key_value_pair& field : *canary) {
    const json::value& shown = field.value();
    if (const json::object* arm = shown.if_object()) {
      arms.push_back(ArmRow(field.key() == "canary_arm" ? "canary" : "baseline", *arm));
      continue;
    }
    rows.push_back({std::string(field.key()),
                    shown.is_string() ? std::string(shown.get_string()) : json::serialize(shown)});
  }
  TANDEM_RETURN_IF_ERROR(PrintTable({"FIELD", "VALUE"}, rows));
  if (arms.empty()) return {};
  TANDEM_RETURN_IF_ERROR(Print("\nthis step, on all nodes (milliseconds at p50, p95, p99):\n"));
  return PrintTable({"ARM", "ANSWERS", "ERRORS", "DEGENERATE", "ENGAGED", "FIRST TOKEN", "TOTAL"},
                    arms);
}

Status StartCanary(const AdminFlags& flags) {
  json::object body{{"id", flags.id}, {"target", flags.target}, {"baseline", flags.baseline}};
  if (!flags.steps.empty()) body["steps"] = json::value_from(flags.steps);
  if (flags.min_step_seconds > 0) body["min_step_seconds"] = flags.min_step_seconds;
  if (flags.step_seconds > 0) body["step_seconds"] = flags.step_seconds;
  if (flags.bake_seconds > 0) body["bake_seconds"] = flags.bake_seconds;
  TANDEM_ASSIGN_OR_RETURN(const std::string reply,
                          flags.Call("POST", "canary/start", json::serialize(body)));
  return PrintCanary(flags, reply);
}

}  // namespace

void AddRouteCommand(CLI::App* app, Action* action) {
  CLI::App* route = app->add_subcommand("route", "Who answers a request, and why");
  route->require_subcommand(1);

  auto flags = std::make_shared<ExplainFlags>();
  CLI::App* explain = route->add_subcommand(
      "explain", "Candidates, rejections and reasons for a prompt, without running anything");
  explain->add_option("prompt", flags->question.prompt, "What a user would ask")->required();
  explain->add_option("--strategy,--config", flags->config,
                      "A configuration in TOML or JSON (default: the shipped three tiers)");
  explain->add_option("--model", flags->question.model,
                      "A model, or a strategy's name (default: the first strategy)");
  explain->add_option("--mode", flags->question.mode, "PREFER_ON_DEVICE, ONLY_ON_DEVICE, ...");
  explain->add_option("--privacy", flags->question.privacy, "any, redacted or on_device");
  explain->add_flag("--require-high-quality", flags->question.require_high_quality,
                    "As the request's field of that name");
  explain->add_flag("--json", flags->as_json, "Print the decision record");
  flags->data_dir.Add(explain);
  explain->callback([flags, action] { *action = [flags] { return Explain(*flags); }; });

  auto replay_flags = std::make_shared<AdminFlags>();
  CLI::App* replay =
      route->add_subcommand("replay", "Makes a recorded decision again, on a server that runs");
  replay->add_option("request-id", replay_flags->request_id, "x-tandem-request-id of the answer")
      ->required();
  replay_flags->Add(replay);
  replay->callback([replay_flags, action] {
    *action = [replay_flags]() -> Status {
      TANDEM_ASSIGN_OR_RETURN(const std::string reply,
                              replay_flags->Call("GET", "replay/" + replay_flags->request_id));
      return Print(reply + "\n");
    };
  });
}

void AddCanaryCommand(CLI::App* app, Action* action) {
  CLI::App* canary =
      app->add_subcommand("canary", "Roll a new target out on a growing share of traffic");
  canary->require_subcommand(1);
  const auto add = [&](const std::string& name, const std::string& help, auto run) {
    auto flags = std::make_shared<AdminFlags>();
    CLI::App* command = canary->add_subcommand(name, help);
    flags->Add(command);
    command->callback([flags, action, run] { *action = [flags, run] { return run(*flags); }; });
    return std::pair(command, flags);
  };
  const auto [start, start_flags] = add("start", "Begin one", StartCanary);
  start->add_option("id", start_flags->id, "Names the roll-out")->required();
  start->add_option("--target", start_flags->target, "The new target's id")->required();
  start->add_option("--baseline", start_flags->baseline, "The target whose place it takes")
      ->required();
  start->add_option("--steps", start_flags->steps, "Shares of traffic, 0.05,0.5,1")->delimiter(',');
  start->add_option("--min-step-seconds", start_flags->min_step_seconds,
                    "Each step lasts at least so long");
  start->add_option("--step-seconds", start_flags->step_seconds,
                    "And is held when it lasts three times this");
  start->add_option("--bake-seconds", start_flags->bake_seconds, "The last step lasts at least");
  add("status", "How it goes", [](const AdminFlags& flags) -> Status {
    TANDEM_ASSIGN_OR_RETURN(const std::string reply, flags.Call("GET", "canary"));
    return PrintCanary(flags, reply);
  });
  const auto [promote, promote_flags] =
      add("promote", "Go to the next step now", [](const AdminFlags& flags) -> Status {
        TANDEM_ASSIGN_OR_RETURN(
            const std::string reply,
            flags.Call("POST",
                       flags.completely ? "canary/promote?completely=true" : "canary/promote"));
        return PrintCanary(flags, reply);
      });
  promote->add_flag("--completely", promote_flags->completely, "Skip all steps that are left");
  for (const char* verb : {"hold", "rollback"}) {
    add(verb, std::string(verb) == "hold" ? "Stay at this step" : "Take it back at once",
        [verb](const AdminFlags& flags) -> Status {
          TANDEM_ASSIGN_OR_RETURN(const std::string reply,
                                  flags.Call("POST", fmt::format("canary/{}", verb)));
          return PrintCanary(flags, reply);
        });
  }
}

}  // namespace tandem::cli
