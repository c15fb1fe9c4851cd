// Where records are kept, as the writer sees it; an interface, so that its failures can be tested.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "gateway/usage/record.h"

namespace tandem::gateway::usage {

// Thread: one at a time. Several processes may write to one store.
class UsageStore {
 public:
  virtual ~UsageStore() = default;
  // All of them in one transaction, or none. A record whose request id is there already changes
  // nothing. Returns the request ids of those.
  // Errors: kInvalidArgument and kInternal for what will fail again; the others may pass.
  virtual Result<std::vector<std::string>> Append(std::span<const UsageRecord> records) = 0;
};

}  // namespace tandem::gateway::usage
