#include "gateway/usage/prices.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <iterator>
#include <optional>
#include <stdexcept>
#include <utility>

#include <fmt/format.h>
// The same in every file that includes it, with its reasons: app/configuration_toml.cc.
#undef NDEBUG
#define TOML_ASSERT(expr) ((expr) ? void() : throw std::logic_error("toml++"))
#define TOML_MAX_NESTED_VALUES 16
#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#include <toml++/impl/forward_declarations.h>
#undef TOML_UNREACHABLE
#define TOML_UNREACHABLE \
  return {}
#include <toml++/impl/unicode.h>
#undef TOML_UNREACHABLE
#define TOML_UNREACHABLE throw std::logic_error("toml++")
#include <toml++/toml.h>

#include "base/check.h"
#include "gateway/usage/prices_toml.h"

namespace tandem::gateway::usage {
namespace {

constexpr size_t kMaxFileBytes = size_t{1} << 20;
constexpr int64_t kTokensPerUnit = 1'000'000;  // prices are for so many
// Of one price; see CostOfTokens.
constexpr double kMaxUsd = 1000;
constexpr std::string_view kFields[] = {"model",        "tier",   "from",    "input",
                                        "cached_input", "output", "blended", "source"};

// A price is at most 10^12, a count at most 10^8: the product is split to fit an int64.
NanoUsd CostOfTokens(NanoUsd per_million, int64_t tokens) {
  const int64_t rest = tokens % kTokensPerUnit;
  return tokens / kTokensPerUnit * per_million +
         (rest * per_million + kTokensPerUnit / 2) / kTokensPerUnit;
}

// One file on its way into a table; collects all that is wrong with it.
class Reader {
 public:
  explicit Reader(std::string_view file_name) : file_name_(file_name) {}

  std::vector<Price> Read(const toml::table& root);
  const std::string& problems() const { return problems_; }

  void Problem(const toml::source_region& where, std::string_view field, std::string_view what) {
    if (!problems_.empty()) problems_ += '\n';
    problems_ += fmt::format("{}:{}:{}: {}{}{}", file_name_, where.begin.line, where.begin.column,
                             field, field.empty() ? "" : ": ", what);
  }

 private:
  void ReadEntry(const toml::table& entry, std::string_view path, std::vector<Price>* prices);
  std::optional<std::string> Text(const toml::table& entry, std::string_view path,
                                  std::string_view name);
  std::optional<NanoUsd> Usd(const toml::table& entry, std::string_view path, std::string_view name,
                             bool required);
  std::optional<int64_t> Day(const toml::table& entry, std::string_view path);

  const std::string_view file_name_;
  std::string problems_;
};

std::vector<Price> Reader::Read(const toml::table& root) {
  std::vector<Price> prices;
  for (const auto& [key, node] : root) {
    if (key.str() != "price") Problem(key.source(), key.str(), "unknown; write [[price]] entries");
  }
  const toml::node* list = root.get("price");
  if (list == nullptr) {
    Problem(root.source(), "price", "missing; write at least one [[price]] entry");
    return prices;
  }
  const toml::array* entries = list->as_array();
  if (entries == nullptr) {
    Problem(list->source(), "price", "must be a list; write [[price]], with two brackets");
    return prices;
  }
  for (size_t i = 0; i < entries->size(); ++i) {
    const std::string path = fmt::format("price[{}]", i);
    const toml::table* entry = entries->get(i)->as_table();
    if (entry == nullptr) {
      Problem(entries->get(i)->source(), path, "must be a table; write [[price]] before it");
    } else {
      ReadEntry(*entry, path, &prices);
    }
  }
  return prices;
}

void Reader::ReadEntry(const toml::table& entry, std::string_view path,
                       std::vector<Price>* prices) {
  const size_t before = problems_.size();
  for (const auto& [key, node] : entry) {
    if (std::ranges::find(kFields, key.str()) == std::end(kFields)) {
      Problem(key.source(), fmt::format("{}.{}", path, key.str()),
              fmt::format("unknown; the fields are {}", fmt::join(kFields, ", ")));
    }
  }
  Price price;
  const auto model = Text(entry, path, "model");
  const auto tier = Text(entry, path, "tier");
  if (!entry.contains("model") && !entry.contains("tier")) {
    Problem(entry.source(), path, "needs a model, a tier, or both");
  }
  if (model) price.model = *model;
  if (tier) {
    price.device = *tier == "device";
    if (*tier != "device" && *tier != "cloud") {
      Problem(entry.get("tier")->source(), fmt::format("{}.tier", path),
              "must be \"device\" or \"cloud\"");
    }
  }
  if (const auto source = Text(entry, path, "source")) price.source = *source;
  if (const auto from = Day(entry, path)) price.from_ms = *from;
  if (const auto input = Usd(entry, path, "input", true)) price.input = *input;
  if (const auto output = Usd(entry, path, "output", true)) price.output = *output;
  price.cached_input = Usd(entry, path, "cached_input", false);
  price.blended = Usd(entry, path, "blended", false);
  if (problems_.size() != before) return;
  const bool repeated = std::ranges::any_of(*prices, [&](const Price& other) {
    return other.model == price.model && other.device == price.device &&
           other.from_ms == price.from_ms;
  });
  if (repeated) {
    Problem(entry.get("from")->source(), fmt::format("{}.from", path),
            "another entry has the same model or tier and the same day; leave one of them out");
    return;
  }
  prices->push_back(std::move(price));
}

std::optional<std::string> Reader::Text(const toml::table& entry, std::string_view path,
                                        std::string_view name) {
  const toml::node* node = entry.get(name);
  if (node == nullptr) return std::nullopt;
  const auto text = node->value_exact<std::string>();
  if (text && !text->empty() && text->size() <= 1000) return text;
  Problem(node->source(), fmt::format("{}.{}", path, name), "must be a text of 1 to 1000 bytes");
  return std::nullopt;
}

std::optional<NanoUsd> Reader::Usd(const toml::table& entry, std::string_view path,
                                   std::string_view name, bool required) {
  const toml::node* node = entry.get(name);
  const std::string field = fmt::format("{}.{}", path, name);
  if (node == nullptr) {
    if (required) Problem(entry.source(), field, "missing; write USD per million tokens");
    return std::nullopt;
  }
  const std::optional<double> usd =
      node->is_number() ? node->value<double>() : std::optional<double>();
  if (usd && *usd >= 0 && *usd <= kMaxUsd) return std::llround(*usd * kNanoPerUsd);
  Problem(node->source(), field,
          fmt::format("must be a number of 0 to {}, in USD per million tokens", kMaxUsd));
  return std::nullopt;
}

std::optional<int64_t> Reader::Day(const toml::table& entry, std::string_view path) {
  const toml::node* node = entry.get("from");
  const std::string field = fmt::format("{}.from", path);
  if (node == nullptr) {
    Problem(entry.source(), field, "missing; write the first day of this price, as 2025-09-29");
    return std::nullopt;
  }
  const auto date = node->value_exact<toml::date>();
  if (!date) {
    Problem(node->source(), field, "must be a date without quotes, such as 2025-09-29");
    return std::nullopt;
  }
  const std::chrono::year_month_day day(
      std::chrono::year(date->year), std::chrono::month(date->month), std::chrono::day(date->day));
  return std::chrono::milliseconds(std::chrono::sys_days(day).time_since_epoch()).count();
}

}  // namespace

NanoUsd CostOf(const Price& price, const Usage& reported) {
  const Usage usage = Sane(reported);
  // At most 3 x 10^14 by the limits on prices and counts.
  return CostOfTokens(price.input, usage.prompt_tokens - usage.cached_tokens) +
         CostOfTokens(price.cached_input.value_or(price.input), usage.cached_tokens) +
         CostOfTokens(price.output, usage.completion_tokens);
}

Result<PriceTable> PriceTable::Parse(std::string_view toml, std::string_view file_name) {
  if (toml.size() > kMaxFileBytes) {
    return Err(ErrorCode::kInvalidArgument, "{}: more than {} bytes; a price list is smaller",
               file_name, kMaxFileBytes);
  }
  Reader reader(file_name);
  std::optional<toml::parse_result> parsed;
  try {
    parsed = toml::parse(toml);
  } catch (const std::logic_error&) {
    return Err(ErrorCode::kInvalidArgument,
               "{}: this is no TOML: look at the brackets and names of its tables", file_name);
  }
  if (!*parsed) {
    reader.Problem(parsed->error().source(), "", parsed->error().description());
    return Err(ErrorCode::kInvalidArgument, "{}", reader.problems());
  }
  const std::vector<Price> prices = reader.Read(parsed->table());
  if (!reader.problems().empty()) {
    return Err(ErrorCode::kInvalidArgument, "{}", reader.problems());
  }
  PriceTable table;
  for (const Price& price : prices) {
    table.prices_[price.device ? 1 : 0][price.model].push_back(price);
  }
  for (auto& of_tier : table.prices_) {
    for (auto& [model, list] : of_tier) std::ranges::sort(list, {}, &Price::from_ms);
  }
  return table;
}

PriceTable PriceTable::Builtin() {
  Result<PriceTable> table = Parse(PricesToml(), "data/prices.toml");
  TANDEM_CHECK(table.has_value());  // the build's own file
  return *std::move(table);
}

const Price* PriceTable::Find(std::string_view model, Tier tier, int64_t at_ms) const {
  const auto& of_tier = prices_[tier == Tier::kCloud ? 0 : 1];
  for (const std::string_view key : {model, std::string_view()}) {
    const auto list = of_tier.find(key);
    if (list == of_tier.end()) continue;
    const auto later = std::ranges::upper_bound(list->second, at_ms, {}, &Price::from_ms);
    if (later != list->second.begin()) return &*std::prev(later);
  }
  return nullptr;
}

std::vector<Price> PriceTable::List() const {
  std::vector<Price> all;
  for (const auto& of_tier : prices_) {
    for (const auto& [model, list] : of_tier) all.insert(all.end(), list.begin(), list.end());
  }
  return all;
}

void PriceRecord(const PriceTable& prices, std::string_view reference_model, UsageRecord* record) {
  record->cost = 0;
  record->unpriced = false;
  for (PricedAttempt& priced : record->attempts) {
    const Attempt& attempt = priced.attempt;
    const Price* price = prices.Find(attempt.model, attempt.tier, record->started_at_ms);
    if (price != nullptr) {
      priced.cost = CostOf(*price, attempt.usage);
      record->cost = SaturatingAdd(record->cost, *priced.cost);
    } else {
      priced.cost.reset();
      record->unpriced |= attempt.usage != Usage{};
    }
  }
  record->reference = 0;
  if (record->usage.completion_tokens <= 0) return;
  const Price* reference = prices.Find(reference_model, Tier::kCloud, record->started_at_ms);
  if (reference == nullptr) return;
  // Without its cache: what would have been in it nobody knows.
  record->reference =
      CostOf(*reference, {record->usage.prompt_tokens, record->usage.completion_tokens, 0});
}

}  // namespace tandem::gateway::usage
