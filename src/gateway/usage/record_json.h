// A record for people and programs.
#pragma once

#include <string>

#include "gateway/usage/record.h"

namespace tandem::gateway::usage {

// One JSON object with every field: times in ISO 8601, money in USD as text (a double would round
// it), names as in the database; decision and receipt as the JSON that they are.
std::string RecordToJson(const UsageRecord& record);

// "2026-11-23T06:30:00.250Z" of milliseconds since 1970.
std::string FormatTimeMs(int64_t unix_ms);

}  // namespace tandem::gateway::usage
