// `tandem route explain`: what a server with this configuration would decide, without one.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "app/configuration.h"
#include "base/error.h"
#include "gateway/router/record.h"

namespace tandem::app {

struct ExplainQuestion {
  std::string prompt;
  std::string model = "tandem";  // a model or a strategy; "tandem": the default strategy
  std::string mode;              // empty: the strategy's
  std::string privacy = "any";
  bool require_high_quality = false;
};

// Nothing is loaded, called or kept; breakers and curves are those of a server that has just
// started. Errors: kInvalidArgument for mode and privacy; kNotFound for an unknown model; those of
// opening the models.
Result<gateway::DecisionRecord> ExplainRoute(const Configuration& configuration,
                                             const std::filesystem::path& data_dir,
                                             const ExplainQuestion& question);

}  // namespace tandem::app
