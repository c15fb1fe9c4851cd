// What tokens cost, and since when: data in a file, never in code (data/prices.toml has the form).
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "gateway/provider/trace.h"
#include "gateway/usage/money.h"
#include "gateway/usage/record.h"

namespace tandem::gateway::usage {

struct Price {
  std::string model;    // empty: every model of the tier that has no price of its own
  bool device = false;  // of both device tiers; else of the cloud
  int64_t from_ms = 0;  // since 1970; midnight UTC of the file's date
  // Per million tokens.
  NanoUsd input = 0;
  std::optional<NanoUsd> cached_input;  // absent: like input
  NanoUsd output = 0;
  std::optional<NanoUsd> blended;  // the provider's headline figure; shown only
  std::string source;

  friend bool operator==(const Price&, const Price&) = default;
};

// Rounded to the nearest nano-dollar; of the counts as Sane() has them.
NanoUsd CostOf(const Price& price, const Usage& usage);

// Thread: any; immutable.
class PriceTable {
 public:
  // Errors: kInvalidArgument with every problem on a line of its own, as "file:line:column: field:
  // what is wrong; what to write". Files above 1 MiB are refused.
  static Result<PriceTable> Parse(std::string_view toml, std::string_view file_name);
  // Of data/prices.toml, as it was when the program was built.
  static PriceTable Builtin();

  // The price in force: the newest of the model's own whose day has begun, else the tier's.
  // nullptr where there is none (yet). Cost: a look-up in a map.
  const Price* Find(std::string_view model, Tier tier, int64_t at_ms) const;

  // The cloud's first, by model and then by date.
  std::vector<Price> List() const;

 private:
  // Of the cloud and of the device; by model (empty: the others), then by date.
  std::array<std::map<std::string, std::vector<Price>, std::less<>>, 2> prices_;
};

// Fills in what a record cost: of each attempt and in all at the prices of the day on which the
// request arrived; `reference`: what `reference_model` in the cloud would have cost for the tokens
// that the client was told (nothing without an answer); `unpriced`. To be called once, before the
// record goes to metrics, budgets and the writer, so that all of them say the same.
void PriceRecord(const PriceTable& prices, std::string_view reference_model, UsageRecord* record);

}  // namespace tandem::gateway::usage
