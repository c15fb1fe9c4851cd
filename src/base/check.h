// TANDEM_CHECK aborts with file, line and condition: for bugs of ours, never for input.
#pragma once

namespace tandem::base {
[[noreturn]] void CheckFailed(const char* file, int line, const char* condition);
}  // namespace tandem::base

#define TANDEM_CHECK(condition)                                                    \
  do {                                                                             \
    if (!(condition)) ::tandem::base::CheckFailed(__FILE__, __LINE__, #condition); \
  } while (false)
