// Which Tandem this is.
#pragma once

#include <string_view>

namespace tandem::app {

// "0.1.0".
std::string_view Version();

}  // namespace tandem::app
