// Where things live, by the XDG base directory specification.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "base/error.h"

namespace tandem::os {

// Nothing for a variable that is unset or empty.
std::optional<std::string> GetEnv(const char* name);

// $XDG_DATA_HOME/tandem, else ~/.local/share/tandem.
// Errors: kFailedPrecondition where neither XDG_DATA_HOME nor HOME is set.
Result<std::filesystem::path> DefaultDataDir();

// The running program's own file, symbolic links resolved.
Result<std::filesystem::path> ExecutablePath();

}  // namespace tandem::os
