#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace tandem::base {

void CheckFailed(const char* file, int line, const char* condition) {
  std::fprintf(stderr, "%s:%d: internal error: %s does not hold. This is a bug in Tandem.\n", file,
               line, condition);
  std::abort();
}

}  // namespace tandem::base
