// Keys in memory, for tests.
#pragma once

#include <algorithm>

#include "gateway/auth/key_store.h"

namespace tandem::gateway::auth {

class FakeKeyStore final : public KeyStore {
 public:
  Status Add(const KeyRecord& record) override {
    if (fail_) return std::unexpected(*fail_);
    for (const KeyRecord& other : records_) {
      if (other.id == record.id || (!other.revoked_at && other.name == record.name)) {
        return Err(ErrorCode::kAlreadyExists, "there is a key '{}' already", record.name);
      }
    }
    records_.push_back(record);
    ++version_;
    return {};
  }
  Result<std::vector<KeyRecord>> List() override {
    if (fail_) return std::unexpected(*fail_);
    ++n_lists_;
    return records_;
  }
  Status Revoke(std::string_view id, int64_t revoked_at) override {
    if (fail_) return std::unexpected(*fail_);
    const auto found = std::ranges::find_if(
        records_, [&](const KeyRecord& r) { return r.id == id && !r.revoked_at; });
    if (found == records_.end()) return Err(ErrorCode::kNotFound, "no key in force has that id");
    found->revoked_at = revoked_at;
    ++version_;
    return {};
  }
  Result<int64_t> Version() override {
    if (fail_) return std::unexpected(*fail_);
    ++n_versions_;
    return version_;
  }

  void FailWith(std::optional<Error> error) { fail_ = std::move(error); }
  int n_lists() const { return n_lists_; }        // whole reads so far
  int n_versions() const { return n_versions_; }  // version checks so far

 private:
  std::vector<KeyRecord> records_;
  std::optional<Error> fail_;
  int64_t version_ = 0;
  int n_lists_ = 0;
  int n_versions_ = 0;
};

}  // namespace tandem::gateway::auth
