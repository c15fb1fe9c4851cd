// Keys in memory, for tests.
#pragma once

#include <algorithm>
#include <utility>

#include "gateway/auth/key_store.h"

namespace tandem::gateway::auth {

class FakeKeyStore final : public KeyStore {
 public:
  Status Add(const KeyRecord& record, const AuditEvent& event) override {
    if (fail_) return std::unexpected(*fail_);
    for (const KeyRecord& other : records_) {
      if (other.id == record.id || (IsCurrent(other) && other.name == record.name)) {
        return Err(ErrorCode::kAlreadyExists, "there is a key '{}' already", record.name);
      }
    }
    records_.push_back(record);
    Changed(event);
    return {};
  }
  Status Replace(std::string_view id, int64_t overlap_ends_at, const KeyRecord& next,
                 const AuditEvent& event) override {
    if (fail_) return std::unexpected(*fail_);
    const auto old = std::ranges::find_if(
        records_, [&](const KeyRecord& r) { return r.id == id && IsCurrent(r); });
    if (old == records_.end()) return Err(ErrorCode::kNotFound, "no key in force has that id");
    if (std::ranges::count(records_, next.id, &KeyRecord::id) > 0) {
      return Err(ErrorCode::kAlreadyExists, "there is a key '{}' already", next.id);
    }
    old->superseded_by = next.id;
    old->overlap_ends_at = overlap_ends_at;
    records_.push_back(next);
    Changed(event);
    return {};
  }
  Result<std::vector<KeyRecord>> List() override {
    if (fail_) return std::unexpected(*fail_);
    ++n_lists_;
    return records_;
  }
  Status Revoke(std::span<const std::string> ids, int64_t revoked_at,
                std::span<const AuditEvent> events) override {
    if (fail_) return std::unexpected(*fail_);
    const auto find = [&](const std::string& id) {
      return std::ranges::find_if(records_,
                                  [&](const KeyRecord& r) { return r.id == id && !r.revoked_at; });
    };
    for (const std::string& id : ids) {
      if (find(id) == records_.end()) return Err(ErrorCode::kNotFound, "no key in force has it");
    }
    for (const std::string& id : ids) find(id)->revoked_at = revoked_at;
    for (const AuditEvent& event : events) Changed(event);
    return {};
  }
  Result<std::string> KeepPepperProof(std::string_view proof) override {
    if (fail_) return std::unexpected(*fail_);
    if (proof_.empty()) proof_ = proof;
    return proof_;
  }
  Result<int64_t> Version() override {
    if (fail_) return std::unexpected(*fail_);
    ++n_versions_;
    return version_;
  }

  void FailWith(std::optional<Error> error) { fail_ = std::move(error); }
  int n_lists() const { return n_lists_; }        // whole reads so far
  int n_versions() const { return n_versions_; }  // version checks so far
  const std::vector<AuditEvent>& events() const { return events_; }

 private:
  std::string proof_;
  static bool IsCurrent(const KeyRecord& record) {
    return !record.revoked_at && record.superseded_by.empty();
  }
  void Changed(const AuditEvent& event) {
    events_.push_back(event);
    ++version_;
  }

  std::vector<KeyRecord> records_;
  std::vector<AuditEvent> events_;
  std::optional<Error> fail_;
  int64_t version_ = 0;
  int n_lists_ = 0;
  int n_versions_ = 0;
};

}  // namespace tandem::gateway::auth
