// data/prices.toml, as it was when the program was built.
#pragma once

#include <string_view>

namespace tandem::gateway::usage {

std::string_view PricesToml();

}  // namespace tandem::gateway::usage
