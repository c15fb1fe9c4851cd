// What the values of a configuration must say together, whatever they were read from.
#pragma once

#include <string>

#include "app/configuration.h"
#include "base/error.h"

namespace tandem::app {

// Errors: as ParseConfiguration. Every complaint stands at the origin of the value.
Status CheckConfiguration(const Configuration& configuration);

// Why this upstream's URL cannot be used, without the URL; empty: it can.
std::string BaseUrlProblem(const std::string& base_url);

}  // namespace tandem::app
