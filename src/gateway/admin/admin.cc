#include "gateway/admin/admin.h"

#include <charconv>
#include <optional>
#include <utility>
#include <vector>

#include <boost/json.hpp>

#include "base/log.h"
#include "gateway/openai/error_table.h"
#include "gateway/router/record.h"
#include "gateway/usage/record_json.h"

namespace tandem::gateway::admin {
namespace {

namespace json = boost::json;

AdminReply Ok(const json::value& value) { return {200, json::serialize(value)}; }

// A whole number of the query. Errors: kInvalidArgument.
Result<int64_t> Number(const AdminRequest& request, std::string_view name, int64_t otherwise) {
  const auto found = request.query.find(name);
  if (found == request.query.end()) return otherwise;
  int64_t value = 0;
  const std::string& text = found->second;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) {
    return Err(ErrorCode::kInvalidArgument, "{} must be a whole number", name);
  }
  return value;
}

json::object ToJson(const dispatch::CanaryQuantiles& quantiles) {
  return {{"p50", quantiles.p50}, {"p95", quantiles.p95}, {"p99", quantiles.p99}};
}

json::object ToJson(const dispatch::CanaryArmStatus& arm) {
  const auto share = [&](uint64_t hits) {
    return arm.samples == 0 ? 0.0 : static_cast<double>(hits) / static_cast<double>(arm.samples);
  };
  return {{"samples", arm.samples},           {"errors", arm.errors},
          {"error_share", share(arm.errors)}, {"degenerate_share", share(arm.degenerate)},
          {"engaged", arm.engaged},           {"engagement_share", share(arm.engaged)},
          {"ttft_ms", ToJson(arm.ttft_ms)},   {"total_ms", ToJson(arm.total_ms)}};
}

json::object ToJson(const dispatch::CanaryStatus& status) {
  json::object object{{"id", status.plan.options.id},
                      {"target", status.plan.target},
                      {"baseline", status.plan.baseline},
                      {"state", CanaryStateName(status.state)},
                      {"share", status.share},
                      {"step", status.step + 1},
                      {"canary_samples", status.canary.samples},
                      {"baseline_samples", status.baseline.samples},
                      {"last_change", status.last_reason},
                      {"version", status.version},
                      {"decides_here", status.decides},
                      {"canary_arm", ToJson(status.canary)},
                      {"baseline_arm", ToJson(status.baseline)}};
  if (!status.store_lost.empty()) {
    object["warning"] = "this is the last known state, and nobody decides: " + status.store_lost;
  }
  json::array steps;
  for (const double step : status.plan.options.steps) steps.emplace_back(step);
  object["steps"] = std::move(steps);
  return object;
}

// The body of canary/start. Errors: kInvalidArgument, naming the field.
Result<dispatch::CanaryPlan> ParsePlan(std::string_view body) {
  boost::system::error_code error;
  const json::value value = json::parse(body, error);
  const json::object* object = value.if_object();
  if (error || object == nullptr) {
    return Err(ErrorCode::kInvalidArgument, "the body must be a JSON object");
  }
  dispatch::CanaryPlan plan;
  const auto text = [&](std::string_view field, std::string* to) -> Status {
    const json::value* at = object->if_contains(field);
    if (at == nullptr || !at->is_string()) {
      return Err(ErrorCode::kInvalidArgument, "'{}' must be a string", field);
    }
    *to = std::string_view(at->get_string());
    return {};
  };
  TANDEM_RETURN_IF_ERROR(text("target", &plan.target));
  TANDEM_RETURN_IF_ERROR(text("baseline", &plan.baseline));
  TANDEM_RETURN_IF_ERROR(text("id", &plan.options.id));
  const auto seconds = [&](std::string_view field, std::chrono::seconds* to) -> Status {
    const json::value* at = object->if_contains(field);
    if (at == nullptr) return {};
    if (!at->is_int64() || at->get_int64() < 0) {
      return Err(ErrorCode::kInvalidArgument, "'{}' must be a number of seconds", field);
    }
    *to = std::chrono::seconds(at->get_int64());
    return {};
  };
  TANDEM_RETURN_IF_ERROR(seconds("min_step_seconds", &plan.options.min_step_time));
  TANDEM_RETURN_IF_ERROR(seconds("step_seconds", &plan.options.step_time));
  TANDEM_RETURN_IF_ERROR(seconds("bake_seconds", &plan.options.bake_time));
  if (const json::value* steps = object->if_contains("steps")) {
    const json::array* array = steps->if_array();
    if (array == nullptr) {
      return Err(ErrorCode::kInvalidArgument, "'steps' must be an array of shares, [0.05, 0.5, 1]");
    }
    plan.options.steps.clear();
    for (const json::value& step : *array) {
      if (!step.is_number()) {
        return Err(ErrorCode::kInvalidArgument, "'steps' must hold numbers from 0 to 1");
      }
      plan.options.steps.push_back(step.to_number<double>());
    }
  }
  return plan;
}

json::object ToJson(const usage::LatencyQuantiles& latency) {
  return {
      {"count", latency.count}, {"p50", latency.p50}, {"p95", latency.p95}, {"p99", latency.p99}};
}

Error NoRecord(std::string_view request_id) {
  return {ErrorCode::kNotFound, fmt::format("there is no record of the request '{}'", request_id),
          ""};
}

std::string_view After(std::string_view path, std::string_view prefix) {
  return path.starts_with(prefix) ? path.substr(prefix.size()) : std::string_view();
}

}  // namespace

std::string_view BreakerName(Breaker::State state) {
  switch (state) {
    case Breaker::State::kClosed:
      return "closed";
    case Breaker::State::kOpen:
      return "open";
    case Breaker::State::kHalfOpen:
      return "half_open";
  }
  return "unknown";
}

AdminReply Admin::Handle(const AdminRequest& request) {
  auto reply = Route(request);
  if (reply) return *std::move(reply);
  const ErrorCode code = reply.error().code;
  const Failure failure = FailureFromError(std::move(reply).error());
  // What an operator asks for is refused for a reason that a retry does not change.
  if (code == ErrorCode::kFailedPrecondition) {
    return {409, openai::ErrorBody({FailureCode::kInvalidRequest, failure.message})};
  }
  return {openai::WireErrorOf(failure.code).http_status, openai::ErrorBody(failure)};
}

Result<AdminReply> Admin::Route(const AdminRequest& request) {
  const std::string_view path = request.path;
  const bool get = request.method == "GET" || request.method == "HEAD";
  const bool post = request.method == "POST";
  if (path == "config" || (path == "config/reload" && post)) return Configuration(request);
  if (path == "targets" && get) return Targets();
  if (path == "canary" && get) return Canary(request, "");
  if (const auto verb = After(path, "canary/"); !verb.empty() && post) return Canary(request, verb);
  if (path == "usage" && get) return Usage(request);
  if (const auto id = After(path, "usage/"); !id.empty() && get) return UsageOf(id);
  if (const auto id = After(path, "replay/"); !id.empty() && get) return Replay(id);
  if (path == "audit" && get) return Audit(request);
  return Err(ErrorCode::kNotFound, "there is no '{} /v1/admin/{}'", request.method, path);
}

Result<AdminReply> Admin::Configuration(const AdminRequest& request) {
  const std::string before = parts_.configuration->Current().sha256;
  if (request.path == "config/reload") {
    TANDEM_RETURN_IF_ERROR(parts_.configuration->Reload());
  } else if (request.method == "PUT") {
    TANDEM_RETURN_IF_ERROR(parts_.configuration->Replace(request.body, request.if_match));
  } else if (request.method != "GET" && request.method != "HEAD") {
    return Err(ErrorCode::kNotFound, "there is no '{} /v1/admin/config'", request.method);
  }
  const ConfigurationDoor::Version now = parts_.configuration->Current();
  if (now.sha256 != before) {
    TANDEM_RETURN_IF_ERROR(parts_.audit->Append(
        {.action = "CONFIG_CHANGE",
         .who = request.who,
         .subject = now.sha256,
         .detail = json::serialize(json::object{{"before", before}, {"version", now.number}})}));
  }
  return Ok(json::object{
      {"version", now.number}, {"sha256", now.sha256}, {"file", now.file}, {"text", now.text}});
}

AdminReply Admin::Targets() {
  json::array targets;
  for (const dispatch::TargetReport& report : parts_.dispatcher->Targets()) {
    json::object object{{"strategy", report.strategy},
                        {"target", report.target},
                        {"model", report.model},
                        {"tier", TierName(report.tier)},
                        {"breaker", BreakerName(report.breaker)},
                        {"times_opened", report.times_opened},
                        {"installed", report.state.installed},
                        {"enabled", report.state.enabled},
                        {"cooling_down", report.state.cooling_down},
                        {"credential_rejected", report.state.credential_rejected},
                        {"queue_full", report.state.queue_full},
                        {"failure_share", report.state.failure_share},
                        {"retry_after_s", report.state.retry_after_s}};
    if (!report.state.remedy.empty()) object["remedy"] = report.state.remedy;
    const auto figure = [&](std::string_view name, const std::optional<double>& value) {
      if (value) object[name] = *value;
    };
    figure("network_ms", report.state.network_ms);
    figure("prefill_tokens_per_second", report.state.prefill_tokens_per_second);
    figure("decode_tokens_per_second", report.state.decode_tokens_per_second);
    targets.push_back(std::move(object));
  }
  return Ok(json::object{{"targets", std::move(targets)}});
}

Result<AdminReply> Admin::Canary(const AdminRequest& request, std::string_view verb) {
  dispatch::CanaryControl& canary = parts_.dispatcher->canary();
  if (verb == "start") {
    TANDEM_ASSIGN_OR_RETURN(dispatch::CanaryPlan plan, ParsePlan(request.body));
    TANDEM_RETURN_IF_ERROR(parts_.dispatcher->StartCanary(std::move(plan), request.who));
  } else if (verb == "promote") {
    const auto completely = request.query.find("completely");
    TANDEM_RETURN_IF_ERROR(canary.Promote(
        completely != request.query.end() && completely->second != "false", request.who));
  } else if (verb == "hold") {
    TANDEM_RETURN_IF_ERROR(canary.Hold(request.who));
  } else if (verb == "rollback") {
    TANDEM_RETURN_IF_ERROR(canary.RollBack(request.who));
  } else if (!verb.empty()) {
    return Err(ErrorCode::kNotFound, "there is no canary/{}; use start, promote, hold or rollback",
               verb);
  }
  TANDEM_ASSIGN_OR_RETURN(const auto status, canary.ReadAll());
  if (!status) return Err(ErrorCode::kNotFound, "there is no canary; start one first");
  return Ok(ToJson(*status));
}

Result<AdminReply> Admin::Usage(const AdminRequest& request) {
  usage::UsageQuery query;
  TANDEM_ASSIGN_OR_RETURN(query.since_ms, Number(request, "since_ms", 0));
  TANDEM_ASSIGN_OR_RETURN(query.until_ms, Number(request, "until_ms", query.until_ms));
  usage::GroupBy by = usage::GroupBy::kAll;
  if (const auto name = request.query.find("by"); name != request.query.end()) {
    TANDEM_ASSIGN_OR_RETURN(by, usage::ParseGroupBy(name->second));
  }
  if (parts_.flush) parts_.flush();
  TANDEM_ASSIGN_OR_RETURN(const auto sums, parts_.usage->Sum(query, by));
  json::array groups;
  for (const usage::UsageSum& sum : sums) {
    groups.push_back(json::object{{"group", sum.group},
                                  {"requests", sum.requests},
                                  {"failed", sum.failed},
                                  {"client_gone", sum.client_gone},
                                  {"handed_off", sum.handed_off},
                                  {"calls", sum.calls},
                                  {"prompt_tokens", sum.usage.prompt_tokens},
                                  {"completion_tokens", sum.usage.completion_tokens},
                                  {"cached_tokens", sum.usage.cached_tokens},
                                  {"cost_usd", usage::FormatUsd(sum.cost)},
                                  {"reference_usd", usage::FormatUsd(sum.reference)},
                                  {"unpriced", sum.unpriced},
                                  {"ttft_ms", ToJson(sum.ttft_ms)},
                                  {"e2e_ms", ToJson(sum.e2e_ms)}});
  }
  return Ok(json::object{{"by", usage::GroupByName(by)}, {"groups", std::move(groups)}});
}

Result<AdminReply> Admin::UsageOf(std::string_view request_id) {
  if (parts_.flush) parts_.flush();
  TANDEM_ASSIGN_OR_RETURN(const auto record, parts_.usage->Find(request_id));
  if (!record) return std::unexpected(NoRecord(request_id));
  return AdminReply{200, usage::RecordToJson(*record)};
}

Result<AdminReply> Admin::Replay(std::string_view request_id) {
  if (parts_.flush) parts_.flush();
  TANDEM_ASSIGN_OR_RETURN(const auto record, parts_.usage->Find(request_id));
  if (!record) return std::unexpected(NoRecord(request_id));
  TANDEM_ASSIGN_OR_RETURN(const DecisionRecord decision,
                          ParseDecisionRecord(record->decision_json));
  TANDEM_ASSIGN_OR_RETURN(const auto text,
                          parts_.dispatcher->FindStrategyJson(decision.strategy_digest));
  if (!text) {
    return Err(ErrorCode::kFailedPrecondition,
               "the strategy {} of that decision is not known here any more",
               decision.strategy_digest);
  }
  TANDEM_ASSIGN_OR_RETURN(const Strategy strategy, ParseStrategyJson(*text));
  TANDEM_ASSIGN_OR_RETURN(const Decision again, ReplayDecision(strategy, decision));
  return AdminReply{200, fmt::format("{{\"same\":true,\"decision\":{}}}", DecisionJson(again))};
}

Result<AdminReply> Admin::Audit(const AdminRequest& request) {
  TANDEM_ASSIGN_OR_RETURN(const int64_t limit, Number(request, "limit", 100));
  TANDEM_ASSIGN_OR_RETURN(const int64_t before, Number(request, "before", 0));
  if (limit < 1 || limit > 1000) {
    return Err(ErrorCode::kInvalidArgument, "limit must be from 1 to 1000");
  }
  TANDEM_ASSIGN_OR_RETURN(const auto records, parts_.audit->List(static_cast<int>(limit), before));
  json::array array;
  for (const auth::AuditRecord& record : records) {
    array.push_back(json::object{{"number", record.number},
                                 {"time", usage::FormatTimeMs(record.at_ms)},
                                 {"action", record.event.action},
                                 {"who", record.event.who},
                                 {"subject", record.event.subject},
                                 {"detail", record.event.detail},
                                 {"digest", record.digest}});
  }
  return Ok(json::object{{"records", std::move(array)}});
}

dispatch::CanaryControl::Audit Admin::AuditOf(auth::AuditLog* audit) {
  return
      [audit](std::string_view action, std::string_view who, const dispatch::CanaryStatus& status) {
        const Status kept = audit->Append({.action = std::string(action),
                                           .who = std::string(who),
                                           .subject = status.plan.options.id,
                                           .detail = json::serialize(ToJson(status))});
        if (!kept) log::Error("audit log: {}", kept.error().message);
        log::Info("canary {} {}: share {:.2f}: {}", status.plan.options.id, action, status.share,
                  status.last_reason);
      };
}

}  // namespace tandem::gateway::admin
