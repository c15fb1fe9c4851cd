#include "gateway/router/record.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iterator>
#include <type_traits>
#include <utility>

#include <boost/describe.hpp>
#include <boost/json.hpp>
#include <boost/mp11.hpp>

#include "gateway/router/decide.h"

namespace tandem::gateway {
namespace {

namespace json = boost::json;

constexpr int kFormat = 2;

}  // namespace

// Enumerations stand as the names that configuration and wire use. Boost.JSON finds these by
// argument-dependent look-up, so they cannot hide in the unnamed namespace.
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
  for (int code = 0; code < kFailureCodeCount; ++code) {
    const auto failure = static_cast<FailureCode>(code);
    if (from == json::value(FailureCodeName(failure))) return failure;
  }
  return json::make_error_code(json::error::not_string);
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
BOOST_DESCRIBE_STRUCT(CascadeNote, (),
                      (targets, tokens, hold_ms, min_probability, min_mean_logprob))

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

std::string_view NameOf(Mode mode) { return ModeName(mode); }
std::string_view NameOf(TaskClass task) { return TaskClassName(task); }
std::string_view NameOf(Privacy privacy) { return PrivacyName(privacy); }
std::string_view NameOf(Tier tier) { return TierName(tier); }
std::string_view NameOf(FailureCode failure) { return FailureCodeName(failure); }

void AppendString(std::string_view value, std::string* text) {
  const auto plain = [](char c) {
    return static_cast<unsigned char>(c) >= 0x20 && c != '"' && c != '\\';
  };
  if (std::ranges::all_of(value, plain)) {
    *text += '"';
    *text += value;
    *text += '"';
  } else {
    *text += json::serialize(json::string_view(value.data(), value.size()));
  }
}

template <typename Number>
void AppendNumber(Number value, std::string* text) {
  char digits[32];
  text->append(digits, std::to_chars(digits, std::end(digits), value).ptr);
}

template <typename T>
constexpr bool kIsOptional = false;
template <typename T>
constexpr bool kIsOptional<std::optional<T>> = true;
template <typename T>
constexpr bool kIsVector = false;
template <typename T>
constexpr bool kIsVector<std::vector<T>> = true;

// JSON as json::value_from and json::serialize make it, but straight into the text: every request
// writes a record, and a tree in between costs many times as much.
template <typename T>
void Append(const T& value, std::string* text) {
  if constexpr (kIsOptional<T>) {
    value ? Append(*value, text) : void(*text += "null");
  } else if constexpr (kIsVector<T>) {
    *text += '[';
    for (const auto& element : value) {
      if (&element != &value.front()) *text += ',';
      Append(element, text);
    }
    *text += ']';
  } else if constexpr (std::is_same_v<T, std::string>) {
    AppendString(value, text);
  } else if constexpr (std::is_same_v<T, bool>) {
    *text += value ? "true" : "false";
  } else if constexpr (std::is_enum_v<T>) {
    AppendString(NameOf(value), text);
  } else if constexpr (std::is_same_v<T, double>) {
    // Of what is no number JSON has no text; the library has one that it reads again.
    std::isfinite(value) ? AppendNumber(value, text)
                         : void(*text += json::serialize(json::value(value)));
  } else if constexpr (std::is_integral_v<T>) {
    AppendNumber(value, text);
  } else {
    char before = '{';
    const auto append = [&](auto member) {
      *text += std::exchange(before, ',');
      AppendString(member.name, text);
      *text += ':';
      Append(value.*member.pointer, text);
    };
    using Members = boost::describe::describe_members<T, boost::describe::mod_any_access>;
    boost::mp11::mp_for_each<Members>(append);
    *text += '}';
  }
}

template <typename T>
std::string TextOf(const T& value) {
  std::string text;
  Append(value, &text);
  return text;
}

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
Result<T> Read(const json::value& value, std::string_view what) {
  json::result<T> parsed = json::try_value_to<T>(value);
  if (!parsed) {
    return Err(ErrorCode::kCorrupt, "{} has another shape than this version writes: {}", what,
               parsed.error().message());
  }
  return *std::move(parsed);
}

Result<json::value> ParseJson(std::string_view text, std::string_view what) {
  boost::system::error_code error;
  json::value value = json::parse(text, error);
  if (error) return Err(ErrorCode::kCorrupt, "{} is not JSON: {}", what, error.message());
  return value;
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
  std::string text;
  text.reserve(2048);  // most are shorter
  const auto append = [&](char before, std::string_view name, const auto& value) {
    text += before;
    AppendString(name, &text);
    text += ':';
    Append(value, &text);
  };
  // What Document describes, without its copies.
  append('{', "format", kFormat);
  append(',', "strategy", record.strategy);
  append(',', "strategy_digest", record.strategy_digest);
  append(',', "facts", record.facts);
  append(',', "task_reason", record.task_reason);
  append(',', "key", record.key);
  append(',', "device", record.device);
  append(',', "states", record.states);
  append(',', "decision", record.decision);
  if (record.cascade) append(',', "cascade", *record.cascade);
  text += '}';
  return text;
}

Result<DecisionRecord> ParseDecisionRecord(std::string_view text) {
  constexpr std::string_view kWhat = "the decision record";
  TANDEM_ASSIGN_OR_RETURN(json::value value, ParseJson(text, kWhat));
  // The library reads a struct where no member is missing and none is too many.
  std::optional<CascadeNote> cascade;
  if (json::object* object = value.if_object(); object != nullptr && object->contains("cascade")) {
    TANDEM_ASSIGN_OR_RETURN(cascade, Read<CascadeNote>(object->at("cascade"), kWhat));
    object->erase("cascade");
  }
  TANDEM_ASSIGN_OR_RETURN(Document document, Read<Document>(value, kWhat));
  if (document.format != kFormat) {
    return Err(ErrorCode::kCorrupt, "the decision record has format {}, this version reads {}",
               document.format, kFormat);
  }
  DecisionRecord record{std::move(document.strategy),
                        std::move(document.strategy_digest),
                        std::move(document.states),
                        document.device,
                        std::move(document.key),
                        std::move(document.facts),
                        std::move(document.task_reason),
                        std::move(document.decision),
                        std::move(cascade)};
  RoundFigures(&record);  // the JSON library reads a number to the last bit but one
  return record;
}

std::string StrategyJson(const Strategy& strategy) { return TextOf(strategy); }

Result<Strategy> ParseStrategyJson(std::string_view text) {
  constexpr std::string_view kWhat = "the strategy";
  TANDEM_ASSIGN_OR_RETURN(const json::value value, ParseJson(text, kWhat));
  TANDEM_ASSIGN_OR_RETURN(Strategy strategy, Read<Strategy>(value, kWhat));
  RoundFigures(&strategy);
  TANDEM_RETURN_IF_ERROR(Validate(strategy));
  return strategy;
}

std::string DecisionJson(const Decision& decision) { return TextOf(decision); }

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
