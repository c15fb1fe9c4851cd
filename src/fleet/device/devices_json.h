// data/devices.json, as it was when the program was built.
#pragma once

#include <string_view>

namespace tandem::fleet {

std::string_view DevicesJson();

}  // namespace tandem::fleet
