// The usage records of a data directory, for `tandem usage`.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "app/keys.h"
#include "base/clock.h"
#include "base/error.h"
#include "gateway/usage/prices.h"
#include "gateway/usage/record_json.h"
#include "gateway/usage/sql_usage_store.h"
#include "gateway/usage/usage_reader.h"

namespace tandem::app {

class UsageRecords {
 public:
  // Makes the directory and the database where they are missing. `clock` outlives the object.
  static Result<std::unique_ptr<UsageRecords>> Open(const StatePlace& place, const Clock* clock);

  gateway::usage::UsageReader& reader() { return *reader_; }

  // What accounts are called: the name of the key that took each over last.
  Result<std::map<std::string, std::string>> AccountNames();
  // The account of a key, by its id or its name (the newest of that name).
  // Errors: kNotFound.
  Result<std::string> AccountOf(std::string_view id_or_name);

 private:
  UsageRecords() = default;

  // Each over the one before.
  std::unique_ptr<Keys> keys_;
  std::unique_ptr<gateway::usage::SqlUsageStore> store_;
  std::unique_ptr<gateway::usage::UsageReader> reader_;
};

// The prices in `file`, or those that are built in where it is empty. Errors: PriceTable::Parse's,
// and those of reading the file.
Result<gateway::usage::PriceTable> LoadPrices(const std::filesystem::path& file);

}  // namespace tandem::app
