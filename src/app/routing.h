// From a configuration to what the gateway's dispatcher and the models take. Pure but for keys,
// which are looked for in the environment and in files.
#pragma once

#include <string>

#include "app/configuration.h"
#include "app/served_models.h"
#include "base/error.h"
#include "engine/engine.h"
#include "gateway/dispatch/routing_table.h"
#include "gateway/usage/prices.h"

namespace tandem::app {

engine::EngineOptions MakeEngineOptions(const Configuration& configuration);

// Upstreams that lack the key which they need are named with the reason.
// Errors: those of ResolveUpstreams.
Result<ServedModelsOptions> MakeServedModelsOptions(const Configuration& configuration);

// The prices in force at `now_ms`: of the configured file, else of the one that comes with Tandem.
// Errors: those of reading and parsing the file.
Result<gateway::usage::PriceTable> LoadPrices(const Configuration& configuration);

// `digest`: ConfigurationDigest. Targets get the prices in force at `now_ms` (since 1970).
// Errors: those of reading and parsing the cascade's calibration.
Result<gateway::dispatch::RoutingTable> MakeRoutingTable(const Configuration& configuration,
                                                         std::string digest,
                                                         const gateway::usage::PriceTable& prices,
                                                         int64_t now_ms);

}  // namespace tandem::app
