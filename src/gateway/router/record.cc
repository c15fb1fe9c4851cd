#include "gateway/router/record.h"

#include <charconv>
#include <iterator>
#include <utility>

#include <boost/describe.hpp>
#include <boost/json.hpp>

#include "gateway/router/decide.h"

namespace tandem::gateway {
namespace {

namespace json = boost::json;

constexpr int kFormat = 1;

}  // namespace

// Enumerations stand as the names that configuration and wire use. Boost.JSON finds these by
// argument-dependent look-up, so they cannot hide in the unnamed namespace.
static void tag_invoke(json::value_from_tag, json::value& to, Mode mode) { to = ModeName(mode); }
static void tag_invoke(json::value_from_tag, json::value& to, TaskClass task) {
  to = TaskClassName(task);
}
static void tag_invoke(json::value_from_tag, json::value& to, Privacy privacy) {
  to = PrivacyName(privacy);
}
static void tag_invoke(json::value_from_tag, json::value& to, Tier tier) { to = TierName(tier); }
static void tag_invoke(json::value_from_tag, json::value& to, FailureCode code) {
  to = static_cast<int>(code);
}

template <typename Enum, typename Parser>
static json::result<Enum> FromName(const json::value& from, Parser parse) {
  if (const json::string* name = from.if_string()) {
    if (auto parsed = parse(std::string_view(name->data(), name->size()))) return *parsed;
  }
  return json::make_error_code(json::error::not_string);
}
static json::result<Mode> tag_invoke(json::try_value_to_tag<Mode>, const json::value& from) {
  return FromName<Mode>(from, ParseMode);
}
static json::result<TaskClass> tag_invoke(json::try_value_to_tag<TaskClass>,
                                          const json::value& from) {
  return FromName<TaskClass>(from, ParseTaskClass);
}
static json::result<Privacy> tag_invoke(json::try_value_to_tag<Privacy>, const json::value& from) {
  return FromName<Privacy>(from, ParsePrivacy);
}
static json::result<Tier> tag_invoke(json::try_value_to_tag<Tier>, const json::value& from) {
  for (const Tier tier : {Tier::kDeviceSmall, Tier::kDeviceLarge, Tier::kCloud}) {
    if (from == json::value(TierName(tier))) return tier;
  }
  return json::make_error_code(json::error::not_string);
}
static json::result<FailureCode> tag_invoke(json::try_value_to_tag<FailureCode>,
                                            const json::value& from) {
  const int64_t* code = from.if_int64();
  if (code == nullptr || *code < 0 || *code >= kFailureCodeCount) {
    return json::make_error_code(json::error::not_exact);
  }
  return static_cast<FailureCode>(*code);
}

BOOST_DESCRIBE_STRUCT(Target, (),
                      (id, model, aliases, tier, context_tokens, tools, images, privacy,
                       input_usd_per_million, output_usd_per_million))
BOOST_DESCRIBE_STRUCT(Rule, (),
                      (name, tasks, complex_reasoning, require_high_quality, min_prompt_tokens,
                       targets))
BOOST_DESCRIBE_STRUCT(TrafficSplit, (), (target, share))
BOOST_DESCRIBE_STRUCT(Strategy, (),
                      (name, mode, targets, rules, splits, fall_back_from_explicit_model,
                       min_battery_share))
BOOST_DESCRIBE_STRUCT(TargetState, (),
                      (installed, enabled, remedy, breaker_open, failure_share, cooling_down,
                       credential_rejected, retry_after_s, queue_full, memory_wanted_bytes,
                       memory_free_bytes, queue_ms, network_ms, prefill_tokens_per_second,
                       decode_tokens_per_second))
BOOST_DESCRIBE_STRUCT(DeviceState, (), (battery_share, hot))
BOOST_DESCRIBE_STRUCT(KeyPolicy, (), (models, device, cloud, privacy, budget_left_usd))
BOOST_DESCRIBE_STRUCT(RequestFacts, (),
                      (model, subject, mode, privacy, conversation_privacy, task, complex_reasoning,
                       require_high_quality, needs_tools, needs_images, prompt_tokens,
                       answer_tokens, max_ttft_ms, max_latency_ms, max_cost_usd, may_fall_back,
                       pinned_target, canary_target, canary_baseline, canary_assigned))
BOOST_DESCRIBE_STRUCT(Candidate, (),
                      (target, reason, redact, predicted_ttft_ms, predicted_e2e_ms,
                       predicted_cost_usd))
BOOST_DESCRIBE_STRUCT(Rejection, (), (target, reason, detail))
BOOST_DESCRIBE_STRUCT(Decision, (),
                      (candidates, rejections, privacy, mode, failure, failure_message,
                       retry_after_s))

namespace {

struct Document {
  int format = kFormat;
  std::string strategy;
  std::string strategy_digest;
  RequestFacts facts;
  std::string task_reason;
  KeyPolicy key;
  DeviceState device;
  std::vector<TargetState> states;
  Decision decision;
};
BOOST_DESCRIBE_STRUCT(Document, (),
                      (format, strategy, strategy_digest, facts, task_reason, key, device, states,
                       decision))

void Round(double* figure) {
  char digits[32];
  const auto written =
      std::to_chars(digits, std::end(digits), *figure, std::chars_format::general, 6);
  std::from_chars(digits, written.ptr, *figure);
}
void Round(std::optional<double>* figure) {
  if (*figure) Round(&**figure);
}

void Round(Decision* decision) {
  Round(&decision->retry_after_s);
  for (Candidate& candidate : decision->candidates) {
    Round(&candidate.predicted_ttft_ms);
    Round(&candidate.predicted_e2e_ms);
    Round(&candidate.predicted_cost_usd);
  }
}

template <typename T>
Result<T> Parse(std::string_view text, std::string_view what) {
  boost::system::error_code error;
  const json::value value = json::parse(text, error);
  if (error) return Err(ErrorCode::kCorrupt, "{} is not JSON: {}", what, error.message());
  json::result<T> parsed = json::try_value_to<T>(value);
  if (!parsed) {
    return Err(ErrorCode::kCorrupt, "{} has another shape than this version writes: {}", what,
               parsed.error().message());
  }
  return *std::move(parsed);
}

}  // namespace

void RoundFigures(Strategy* strategy) {
  Round(&strategy->min_battery_share);
  for (Target& target : strategy->targets) {
    Round(&target.input_usd_per_million);
    Round(&target.output_usd_per_million);
  }
  for (TrafficSplit& split : strategy->splits) Round(&split.share);
}

void RoundFigures(DecisionRecord* record) {
  for (TargetState& state : record->states) {
    for (double* figure : {&state.failure_share, &state.retry_after_s}) Round(figure);
    for (std::optional<double>* figure :
         {&state.queue_ms, &state.network_ms, &state.prefill_tokens_per_second,
          &state.decode_tokens_per_second}) {
      Round(figure);
    }
  }
  Round(&record->device.battery_share);
  Round(&record->key.budget_left_usd);
  for (std::optional<double>* figure :
       {&record->facts.max_ttft_ms, &record->facts.max_latency_ms, &record->facts.max_cost_usd}) {
    Round(figure);
  }
}

std::string DecisionRecordJson(const DecisionRecord& record) {
  return json::serialize(json::value_from(Document{kFormat, record.strategy, record.strategy_digest,
                                                   record.facts, record.task_reason, record.key,
                                                   record.device, record.states, record.decision}));
}

Result<DecisionRecord> ParseDecisionRecord(std::string_view text) {
  TANDEM_ASSIGN_OR_RETURN(Document document, Parse<Document>(text, "the decision record"));
  if (document.format != kFormat) {
    return Err(ErrorCode::kCorrupt, "the decision record has format {}, this version reads {}",
               document.format, kFormat);
  }
  DecisionRecord record{std::move(document.strategy),    std::move(document.strategy_digest),
                        std::move(document.states),      document.device,
                        std::move(document.key),         std::move(document.facts),
                        std::move(document.task_reason), std::move(document.decision)};
  RoundFigures(&record);  // the JSON library reads a number to the last bit but one
  return record;
}

std::string StrategyJson(const Strategy& strategy) {
  return json::serialize(json::value_from(strategy));
}

Result<Strategy> ParseStrategyJson(std::string_view text) {
  TANDEM_ASSIGN_OR_RETURN(Strategy strategy, Parse<Strategy>(text, "the strategy"));
  RoundFigures(&strategy);
  TANDEM_RETURN_IF_ERROR(Validate(strategy));
  return strategy;
}

std::string DecisionJson(const Decision& decision) {
  return json::serialize(json::value_from(decision));
}

Result<Decision> ReplayDecision(const Strategy& strategy, const DecisionRecord& record) {
  if (strategy.name != record.strategy || strategy.targets.size() != record.states.size()) {
    return Err(ErrorCode::kCorrupt, "the record is of the strategy '{}' with {} targets, not '{}'",
               record.strategy, record.states.size(), strategy.name);
  }
  Decision again = Decide(strategy, record.states, record.device, record.key, record.facts);
  Decision recorded_decision = record.decision;
  Decision made_decision = again;
  Round(&recorded_decision);
  Round(&made_decision);
  const std::string recorded = DecisionJson(recorded_decision);
  const std::string made = DecisionJson(made_decision);
  if (recorded != made) {
    return Err(ErrorCode::kInternal, "the decision is {}, the recorded one was {}", made, recorded);
  }
  return again;
}

}  // namespace tandem::gateway
