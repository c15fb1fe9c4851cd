// One description of every field of a configuration, from which it is read and shown. Part of
// configuration.cc; no other file needs it.
//
// DescribeX(v, x) calls v once for each field of x:
//   v.Field(name, member, codec)                 has a default
//   v.Required(name, member, codec, example)     must be there
//   v.Section(name, member, describe)            a table
//   v.OptionalSection(name, optional, describe)  a table that may be absent
//   v.List(name, vector, describe)               an array of tables
//   v.Forbidden(name, what_to_write)             a mistake that people make
// where v is a reader (x is filled) or a writer (x is const).
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "app/byte_size.h"
#include "app/configuration.h"
#include "app/configuration_issues.h"
#include "app/configuration_reader.h"
#include "store/database.h"

namespace tandem::app::schema {

// Codecs: Read gives false and complains where the node does not fit; Write is its inverse.

struct TextCodec {
  bool may_be_empty = true;
  size_t max_bytes = 2048;
  bool Read(const Place& place, const DocumentNode& node, std::string* out) const {
    const auto* text = std::get_if<std::string>(&node.value);
    if (text == nullptr) return place.Mismatch(node, "a string");
    if (text->empty() && !may_be_empty) return place.Complain(node, "must not be empty");
    if (text->size() > max_bytes) {
      return place.Complain(node, fmt::format("has {} bytes; at most {}", text->size(), max_bytes));
    }
    const bool control = std::ranges::any_of(
        *text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; });
    if (control) return place.Complain(node, "must be one line without control characters");
    *out = *text;
    return true;
  }
  DocumentNode Write(const std::string& text) const { return {.value = text}; }
};

struct BoolCodec {
  bool Read(const Place& place, const DocumentNode& node, bool* out) const {
    const bool* value = std::get_if<bool>(&node.value);
    if (value == nullptr) return place.Mismatch(node, "true or false");
    *out = *value;
    return true;
  }
  DocumentNode Write(bool value) const { return {.value = value}; }
};

struct IntCodec {
  int64_t lowest;
  int64_t highest;
  template <typename Int>
  bool Read(const Place& place, const DocumentNode& node, Int* out) const {
    const std::string wanted = fmt::format("a whole number from {} to {}", lowest, highest);
    const int64_t* value = std::get_if<int64_t>(&node.value);
    if (value == nullptr) return place.Mismatch(node, wanted);
    if (*value < lowest || *value > highest) {
      return place.Complain(node, fmt::format("must be {}, not {}", wanted, *value));
    }
    *out = static_cast<Int>(*value);
    return true;
  }
  template <typename Int>
  DocumentNode Write(Int value) const {
    return {.value = static_cast<int64_t>(value)};
  }
};

struct RealCodec {
  double lowest;
  double highest;
  bool Read(const Place& place, const DocumentNode& node, double* out) const {
    const std::string wanted = fmt::format("a number from {} to {}", lowest, highest);
    double value = 0;
    if (const double* real = std::get_if<double>(&node.value)) {
      value = *real;
    } else if (const int64_t* whole = std::get_if<int64_t>(&node.value)) {
      value = static_cast<double>(*whole);
    } else {
      return place.Mismatch(node, wanted);
    }
    if (!(value >= lowest && value <= highest)) {
      return place.Complain(node, fmt::format("must be {}, not {}", wanted, value));
    }
    *out = value;
    return true;
  }
  DocumentNode Write(double value) const { return {.value = value}; }
};

// A duration in whole milliseconds ("..._ms") or in seconds with a fraction ("..._s").
template <bool kSeconds>
struct DurationCodec {
  std::chrono::milliseconds lowest;
  std::chrono::milliseconds highest;
  template <typename Duration>
  bool Read(const Place& place, const DocumentNode& node, Duration* out) const {
    if constexpr (kSeconds) {
      // A member that counts whole seconds takes whole seconds.
      if constexpr (std::is_same_v<Duration, std::chrono::seconds>) {
        int64_t seconds = 0;
        if (!IntCodec{InSeconds(lowest), InSeconds(highest)}.Read(place, node, &seconds)) {
          return false;
        }
        *out = Duration(seconds);
      } else {
        double seconds = 0;
        const RealCodec range{static_cast<double>(lowest.count()) / 1e3,
                              static_cast<double>(highest.count()) / 1e3};
        if (!range.Read(place, node, &seconds)) return false;
        *out = Duration(std::llround(seconds * 1e3));
      }
    } else {
      int64_t milliseconds = 0;
      if (!IntCodec{lowest.count(), highest.count()}.Read(place, node, &milliseconds)) return false;
      *out = Duration(milliseconds);
    }
    return true;
  }
  DocumentNode Write(std::chrono::seconds value) const { return {.value = value.count()}; }
  DocumentNode Write(std::chrono::milliseconds value) const {
    if (!kSeconds || value.count() % 1000 == 0) {
      return {.value = int64_t{kSeconds ? value.count() / 1000 : value.count()}};
    }
    return {.value = static_cast<double>(value.count()) / 1e3};
  }

 private:
  static int64_t InSeconds(std::chrono::milliseconds value) { return value.count() / 1000; }
};
using MillisCodec = DurationCodec<false>;
using SecondsCodec = DurationCodec<true>;

// A value that is written as a word: Parse gives Result<T> and Name its inverse.
template <typename T>
struct WordCodec {
  Result<T> (*parse)(std::string_view);
  std::string (*name)(const T&);
  bool Read(const Place& place, const DocumentNode& node, T* out) const {
    const auto* text = std::get_if<std::string>(&node.value);
    if (text == nullptr) return place.Mismatch(node, "a string");
    if (text->size() > 256)
      return place.Complain(node, "is longer than any value that it can have");
    Result<T> value = parse(*text);
    if (!value) return place.Complain(node, value.error().message);
    *out = *std::move(value);
    return true;
  }
  DocumentNode Write(const T& value) const { return {.value = name(value)}; }
};

// One of a list of words, or nothing.
struct ChoiceCodec {
  std::vector<std::string_view> words;
  bool Read(const Place& place, const DocumentNode& node, std::string* out) const {
    const auto* text = std::get_if<std::string>(&node.value);
    if (text == nullptr) return place.Mismatch(node, "a string");
    if (!text->empty() && std::ranges::find(words, *text) == words.end()) {
      return place.Complain(node, fmt::format("{} is none of {}{}", Quoted(*text),
                                              fmt::join(words, ", "), Suggestion(*text, words)));
    }
    *out = *text;
    return true;
  }
  DocumentNode Write(const std::string& text) const { return {.value = text}; }
};

struct ByteSizeCodec {
  bool Read(const Place& place, const DocumentNode& node, uint64_t* out) const {
    if (const int64_t* bytes = std::get_if<int64_t>(&node.value)) {
      if (*bytes < 0) return place.Complain(node, "must not be negative");
      *out = static_cast<uint64_t>(*bytes);
      return true;
    }
    const auto* text = std::get_if<std::string>(&node.value);
    if (text == nullptr) return place.Mismatch(node, "a size such as \"2.1GB\"");
    const auto bytes = ParseByteSize(std::string_view(*text).substr(0, 64));
    if (!bytes) return place.Complain(node, "is no size; write for example \"2.1GB\" or \"4GiB\"");
    *out = *bytes;
    return true;
  }
  DocumentNode Write(uint64_t bytes) const { return {.value = static_cast<int64_t>(bytes)}; }
};

// The URL of a shared database. What is wrong with it is said without repeating it.
struct SharedUrlCodec {
  bool Read(const Place& place, const DocumentNode& node, std::string* out) const {
    std::string url;
    if (!TextCodec().Read(place, node, &url)) return false;
    if (!url.empty()) {
      if (const Status good = store::CheckSharedUrl(url); !good) {
        return place.Complain(node, good.error().message);
      }
    }
    *out = std::move(url);
    return true;
  }
  DocumentNode Write(const std::string& url) const { return {.value = url}; }
};

// A list of anything that a codec reads; an array has a fixed length.
template <typename Element>
struct ListCodec {
  Element element;
  size_t highest_count = 256;
  template <typename T>
  bool Read(const Place& place, const DocumentNode& node, std::vector<T>* out) const {
    const auto* array = std::get_if<DocumentNode::Array>(&node.value);
    if (array == nullptr) return place.Mismatch(node, "a list");
    if (array->size() > highest_count) {
      return place.Complain(
          node, fmt::format("has {} entries; at most {}", array->size(), highest_count));
    }
    std::vector<T> values(array->size());
    bool good = true;
    for (size_t i = 0; i < array->size(); ++i) good &= ReadOne(place, *array, i, &values[i]);
    if (good) *out = std::move(values);
    return good;
  }
  template <typename T, size_t kCount>
  bool Read(const Place& place, const DocumentNode& node, std::array<T, kCount>* out) const {
    const auto* array = std::get_if<DocumentNode::Array>(&node.value);
    if (array == nullptr || array->size() != kCount) {
      return place.Complain(node, fmt::format("must be a list of {} values", kCount));
    }
    bool good = true;
    for (size_t i = 0; i < kCount; ++i) good &= ReadOne(place, *array, i, &(*out)[i]);
    return good;
  }
  template <typename Values>
  DocumentNode Write(const Values& values) const {
    DocumentNode::Array array;
    for (const auto& value : values) array.push_back(element.Write(value));
    return {.value = std::move(array)};
  }

 private:
  template <typename T>
  bool ReadOne(const Place& place, const DocumentNode::Array& array, size_t i, T* out) const {
    const Place inner{place.issues, place.file, fmt::format("{}[{}]", place.path, i)};
    return element.Read(inner, array[i], out);
  }
};

template <typename Element>
constexpr ListCodec<Element> ListOf(Element element) {
  return {.element = element};
}

inline constexpr TextCodec kText;
inline constexpr TextCodec kName{.may_be_empty = false, .max_bytes = 256};
inline constexpr BoolCodec kBool;
inline constexpr MillisCodec kTimeoutMs{std::chrono::milliseconds(0), std::chrono::hours(24)};
inline constexpr MillisCodec kPositiveMs{std::chrono::milliseconds(1), std::chrono::hours(24)};
inline constexpr SecondsCodec kSeconds{std::chrono::seconds(0), std::chrono::hours(24 * 366)};
inline constexpr SecondsCodec kPositiveSeconds{std::chrono::milliseconds(1),
                                               std::chrono::hours(24 * 366)};
inline constexpr RealCodec kShare{0, 1};
inline constexpr RealCodec kLogprob{-100, 0};
inline constexpr IntCodec kIoThreads{1, 64};
inline constexpr IntCodec kMaxInFlight{1, 100'000};
inline constexpr IntCodec kContext{0, 1 << 24};
inline constexpr IntCodec kThreads{0, 1024};

inline constexpr WordCodec<ListenAddress> kListenAddress{
    ParseListenAddress, [](const ListenAddress& address) { return FormatAddress(address); }};
inline constexpr WordCodec<gateway::Mode> kMode{
    gateway::ParseMode, [](const gateway::Mode& mode) { return std::string(ModeName(mode)); }};
inline constexpr WordCodec<gateway::Privacy> kPrivacy{
    gateway::ParsePrivacy,
    [](const gateway::Privacy& privacy) { return std::string(PrivacyName(privacy)); }};
inline constexpr WordCodec<gateway::Receipts> kReceipts{
    gateway::ParseReceipts,
    [](const gateway::Receipts& receipts) { return std::string(ReceiptsName(receipts)); }};
inline constexpr WordCodec<gateway::TaskClass> kTask{
    gateway::ParseTaskClass,
    [](const gateway::TaskClass& task) { return std::string(TaskClassName(task)); }};
Result<gateway::Tier> ParseTier(std::string_view name);
inline constexpr WordCodec<gateway::Tier> kTier{
    ParseTier, [](const gateway::Tier& tier) { return std::string(TierName(tier)); }};
Result<Continuation> ParseContinuation(std::string_view name);
inline constexpr WordCodec<Continuation> kContinuation{
    ParseContinuation,
    [](const Continuation& continuation) { return std::string(ContinuationName(continuation)); }};

inline constexpr WordCodec<engine::KvPrecision> kKvType{
    engine::ParseKvPrecision, [](const engine::KvPrecision& precision) {
      return std::string(engine::KvPrecisionName(precision));
    }};

inline constexpr WordCodec<engine::SpeculationMode> kSpeculation{
    engine::ParseSpeculationMode, [](const engine::SpeculationMode& mode) {
      return std::string(engine::SpeculationModeName(mode));
    }};
inline constexpr WordCodec<engine::HugePages> kHugePages{
    engine::ParseHugePages,
    [](const engine::HugePages& mode) { return std::string(engine::HugePagesName(mode)); }};

// The providers that gateway/upstream knows the habits of.
std::vector<std::string_view> UpstreamKinds();

template <typename V>
void DescribeServer(V& v, auto& s) {
  v.Field("listen", s.listen, kListenAddress);
  v.Field("io_threads", s.io_threads, kIoThreads);
  v.Field("max_in_flight", s.max_in_flight, kMaxInFlight);
  v.Field("cors_allow_origin", s.cors_allow_origin, kText);
  v.Field("anonymous_pull", s.anonymous_pull, kBool);
  v.Field("drain_timeout_s", s.drain_timeout, kSeconds);
  v.Field("memory_limit", s.memory_limit_bytes, ByteSizeCodec());
  v.Field("context", s.context_tokens, kContext);
  v.Field("threads", s.threads, kThreads);
  v.Field("kv_type", s.kv_precision, kKvType);
  v.Field("keep_alive_s", s.keep_alive, kSeconds);
  v.Field("drivers", s.drivers, ListCodec<TextCodec>{.element = kName, .highest_count = 16});
  v.Field("speculation", s.speculation, kSpeculation);
  v.Field("huge_pages", s.huge_pages, kHugePages);
}

template <typename V>
void DescribeStore(V& v, auto& s) {
  v.Field("url", s.url, SharedUrlCodec());
  v.Forbidden("password",
              "a password does not belong into this file; write password_env = \"NAME\" with the "
              "name of the environment variable that holds it, or password_file = \"PATH\"");
  v.Field("password_env", s.password_env, kText);
  v.Field("password_file", s.password_file, kText);
  v.Field("busy_timeout_ms", s.busy_timeout, kPositiveMs);
  v.Field("statement_timeout_ms", s.statement_timeout, kPositiveMs);
}

template <typename V>
void DescribeUpstream(V& v, auto& s) {
  v.Required("model", s.model, kName, "\"deepseek-v3.2\"");
  v.Required("base_url", s.base_url, kName, "\"https://api.deepseek.com/v1\"");
  v.Field("upstream_model", s.upstream_model, kText);
  v.Field("kind", s.kind, ChoiceCodec{UpstreamKinds()});
  v.Forbidden("api_key",
              "a key does not belong into this file; write api_key_env = \"NAME\" with the name of "
              "the environment variable that holds it, or api_key_file = \"PATH\"");
  v.Field("api_key_env", s.api_key_env, kText);
  v.Field("api_key_file", s.api_key_file, kText);
  v.Field("connect_timeout_ms", s.connect_timeout, kTimeoutMs);
  v.Field("first_token_timeout_ms", s.first_token_timeout, kTimeoutMs);
  v.Field("between_tokens_timeout_ms", s.between_tokens_timeout, kTimeoutMs);
  v.Field("total_timeout_ms", s.total_timeout, kTimeoutMs);
}

template <typename V>
void DescribeAlias(V& v, auto& s) {
  v.Required("name", s.name, kName, "\"gpt-4o-mini\"");
  v.Required("model", s.model, kName, "\"phi-4-mini\"");
}

template <typename V>
void DescribeTarget(V& v, auto& s) {
  v.Required("id", s.target.id, kName, "\"small\"");
  v.Required("model", s.target.model, kName, "\"phi-4-mini\"");
  v.Required("tier", s.target.tier, kTier, "\"device_small\", \"device_large\" or \"cloud\"");
  v.Field("aliases", s.target.aliases, ListOf(kName));
  v.Field("package", s.package, kText);
  v.Field("upstream", s.upstream, kText);
  v.Field("context_tokens", s.target.context_tokens, IntCodec{0, 1 << 24});
  v.Field("tools", s.target.tools, kBool);
  v.Field("images", s.target.images, kBool);
  v.Field("privacy", s.target.privacy, kPrivacy);
  v.Field("first_token_timeout_ms", s.first_token_timeout, kTimeoutMs);
  v.Field("between_tokens_timeout_ms", s.between_tokens_timeout, kTimeoutMs);
  v.Field("total_timeout_ms", s.total_timeout, kTimeoutMs);
  v.Field("hold_tokens", s.hold_tokens, IntCodec{0, 1024});
  v.Field("hold_ms", s.hold, kTimeoutMs);
  v.Field("hedge_after_ms", s.hedge_after, kPositiveMs);
  v.Field("continuation", s.continuation, kContinuation);
  v.Field("max_retries", s.max_retries, IntCodec{0, 10});
  v.Field("slow_after_ms", s.slow_after, kTimeoutMs);
}

template <typename V>
void DescribeRule(V& v, auto& s) {
  v.Required("name", s.name, kName, "\"math_and_code\"");
  v.Field("tasks", s.tasks, ListOf(kTask));
  v.Field("complex_reasoning", s.complex_reasoning, kBool);
  v.Field("require_high_quality", s.require_high_quality, kBool);
  v.Field("min_prompt_tokens", s.min_prompt_tokens, IntCodec{0, 1 << 24});
  v.Required("targets", s.targets, ListOf(kName), "[\"small\", \"cloud\"]");
}

template <typename V>
void DescribeSplit(V& v, auto& s) {
  v.Required("target", s.target, kName, "\"cloud\"");
  v.Required("share", s.share, kShare, "0.05");
}

template <typename V>
void DescribeStrategy(V& v, auto& s) {
  v.Required("name", s.name, kName, "\"three-tier\"");
  v.Field("mode", s.mode, kMode);
  v.Field("privacy", s.privacy, kPrivacy);
  v.Field("fall_back_from_explicit_model", s.fall_back_from_explicit_model, kBool);
  v.Field("min_battery_share", s.min_battery_share, kShare);
  v.Field("hand_off", s.hand_off, kBool);
  v.Field("shadow_share", s.shadow_share, kShare);
  v.Field("deadline_ms", s.deadline, kPositiveMs);
  v.List("target", s.targets, [](auto& inner, auto& target) { DescribeTarget(inner, target); });
  v.List("rule", s.rules, [](auto& inner, auto& rule) { DescribeRule(inner, rule); });
  v.List("split", s.splits, [](auto& inner, auto& split) { DescribeSplit(inner, split); });
}

template <typename V>
void DescribeBreaker(V& v, auto& s) {
  v.Field("error_threshold", s.error_threshold, RealCodec{0.0001, 1});
  v.Field("recovery_timeout_s", s.recovery_timeout, kPositiveSeconds);
  v.Field("slow_threshold", s.slow_threshold, RealCodec{0.0001, 1});
  v.Field("min_outcomes", s.min_outcomes, IntCodec{1, 1'000'000});
  v.Field("failures_in_a_row", s.failures_in_a_row, IntCodec{1, 1'000'000});
  v.Field("max_probes", s.max_probes, IntCodec{1, 1000});
  v.Field("successes_to_close", s.successes_to_close, IntCodec{1, 1'000'000});
  v.Field("window_s", s.window, kPositiveSeconds);
  v.Field("slow_start_s", s.slow_start, kSeconds);
  v.Field("max_recovery_s", s.max_recovery, kPositiveSeconds);
}

template <typename V>
void DescribeCanary(V& v, auto& s) {
  v.Required("id", s.options.id, kName, "\"mimo-july\"");
  v.Field("strategy", s.strategy, kText);
  v.Required("target", s.target, kName, "\"large\"");
  v.Required("baseline", s.baseline, kName, "\"cloud\"");
  v.Field("steps", s.options.steps, ListOf(RealCodec{0, 1}));
  v.Field("min_step_time_s", s.options.min_step_time, kSeconds);
  v.Field("bake_time_s", s.options.bake_time, kSeconds);
  v.Field("max_step_factor", s.options.max_step_factor, IntCodec{1, 1000});
  v.Field("step_time_s", s.options.step_time, kSeconds);
  v.Field("alpha", s.options.alpha, RealCodec{0.0001, 0.5});
  v.Field("worse_ratio", s.options.worse_ratio, ListOf(RealCodec{1, 100}));
  v.Field("min_samples", s.options.min_samples, ListOf(IntCodec{1, 1'000'000'000}));
  v.Field("min_error_samples", s.options.min_error_samples, IntCodec{1, 1'000'000'000});
  v.Field("failures_in_a_row", s.options.failures_in_a_row, IntCodec{1, 1'000'000});
}

template <typename V>
void DescribeRetry(V& v, auto& s) {
  v.Field("max_retries", s.max_retries, IntCodec{0, 10});
  v.Field("budget_share", s.budget_share, kShare);
  v.Field("budget_burst", s.budget_burst, RealCodec{0, 1e6});
  v.Field("budget_per_second", s.budget_per_second, RealCodec{0, 1e6});
}

template <typename V>
void DescribePrivacy(V& v, auto& s) {
  v.Field("default", s.standard, kPrivacy);
  v.Field("names", s.names, ListCodec<TextCodec>{.element = kName, .highest_count = 10'000});
  v.Field("receipts", s.receipts, kReceipts);
  v.Field("log_egress", s.log_egress, kBool);
}

template <typename V>
void DescribeUsage(V& v, auto& s) {
  v.Field("prices_file", s.prices_file, kText);
  v.Field("retention_days", s.retention_days, IntCodec{0, 36'500});
  v.Field("reference_model", s.reference_model, kName);
}

template <typename V>
void DescribeCascade(V& v, auto& s) {
  v.Field("enabled", s.enabled, kBool);
  v.Field("hold_tokens", s.hold_tokens, IntCodec{1, 1024});
  v.Field("hold_ms", s.hold, kPositiveMs);
  v.Field("min_probability", s.min_probability, kShare);
  v.Field("calibration_file", s.calibration_file, kText);
  v.Field("min_mean_logprob", s.min_mean_logprob, kLogprob);
  v.Section("by_task", s.by_task, [](auto& inner, auto& by_task) {
    for (size_t i = 0; i < by_task.size(); ++i) {
      inner.Field(TaskClassName(static_cast<gateway::TaskClass>(i)), by_task[i], kLogprob);
    }
  });
}

template <typename V>
void DescribeConfiguration(V& v, auto& c) {
  v.Section("server", c.server, [](auto& inner, auto& s) { DescribeServer(inner, s); });
  v.Section("store", c.store, [](auto& inner, auto& s) { DescribeStore(inner, s); });
  v.Section("breaker", c.breaker, [](auto& inner, auto& s) { DescribeBreaker(inner, s); });
  v.Section("retry", c.retry, [](auto& inner, auto& s) { DescribeRetry(inner, s); });
  v.Section("privacy", c.privacy, [](auto& inner, auto& s) { DescribePrivacy(inner, s); });
  v.Section("usage", c.usage, [](auto& inner, auto& s) { DescribeUsage(inner, s); });
  v.Section("cascade", c.cascade, [](auto& inner, auto& s) { DescribeCascade(inner, s); });
  v.OptionalSection("canary", c.canary, [](auto& inner, auto& s) { DescribeCanary(inner, s); });
  v.List("upstream", c.upstreams, [](auto& inner, auto& s) { DescribeUpstream(inner, s); });
  v.List("alias", c.aliases, [](auto& inner, auto& s) { DescribeAlias(inner, s); });
  v.List("strategy", c.strategies, [](auto& inner, auto& s) { DescribeStrategy(inner, s); });
}

}  // namespace tandem::app::schema
