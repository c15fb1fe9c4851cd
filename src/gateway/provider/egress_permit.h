// The right to send one request off this device.
#pragma once

#include <string>
#include <string_view>
#include <utility>

namespace tandem::gateway {

// Only the policy makes one (gateway/router), for one request, after the privacy contract, the mode
// and the key have been looked at; gateway/upstream sends nothing without it. Whoever forgets to
// ask the policy has no permit, so doubt means no.
class EgressPermit {
 public:
  // Whether it was made for this request.
  bool Covers(std::string_view request_id) const {
    return !request_id_.empty() && request_id_ == request_id;
  }

 private:
  friend class EgressPolicy;
  explicit EgressPermit(std::string request_id) : request_id_(std::move(request_id)) {}
  std::string request_id_;
};

}  // namespace tandem::gateway
