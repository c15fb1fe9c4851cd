// data/cascade/calibration.json, as it was when the program was built.
#pragma once

#include <string_view>

namespace tandem::gateway::dispatch {

std::string_view CalibrationJson();

}  // namespace tandem::gateway::dispatch
