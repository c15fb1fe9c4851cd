#include "app/usage_records.h"

#include <algorithm>
#include <utility>

#include "os/file.h"

namespace tandem::app {
namespace {

constexpr size_t kMaxPriceFileBytes = size_t{1} << 20;

}  // namespace

Result<std::unique_ptr<UsageRecords>> UsageRecords::Open(const StatePlace& place,
                                                         const Clock* clock) {
  auto records = std::unique_ptr<UsageRecords>(new UsageRecords());
  TANDEM_ASSIGN_OR_RETURN(records->keys_, Keys::Open(place, clock));
  TANDEM_ASSIGN_OR_RETURN(records->store_,
                          gateway::usage::SqlUsageStore::Open(&records->keys_->database()));
  records->reader_ = std::make_unique<gateway::usage::UsageReader>(&records->keys_->database());
  return records;
}

Result<std::map<std::string, std::string>> UsageRecords::AccountNames() {
  TANDEM_ASSIGN_OR_RETURN(const auto keys, keys_->ring().List());
  std::map<std::string, std::string> names;
  for (const auto& key : keys) names[key.account] = key.name;  // oldest first
  return names;
}

Result<std::string> UsageRecords::AccountOf(std::string_view id_or_name) {
  TANDEM_ASSIGN_OR_RETURN(const auto keys, keys_->ring().List());
  const std::string* account = nullptr;
  for (const auto& key : keys) {
    if (key.id == id_or_name) return key.account;
    if (key.name == id_or_name) account = &key.account;
  }
  if (account != nullptr) return *account;
  return Err(ErrorCode::kNotFound, "no key has the id or name '{}'; see 'tandem keys list'",
             id_or_name);
}

Result<gateway::usage::PriceTable> LoadPrices(const std::filesystem::path& file) {
  if (file.empty()) return gateway::usage::PriceTable::Builtin();
  TANDEM_ASSIGN_OR_RETURN(const std::string text, os::ReadFile(file, kMaxPriceFileBytes));
  return gateway::usage::PriceTable::Parse(text, file.string());
}

}  // namespace tandem::app
