// The wire contract's deployment configuration, as its clients hold it:
//   {"primary":  {"base_url", "model", "traffic_percentage", "timeout_ms"},
//    "fallback": {the same},
//    "circuit_breaker": {"error_threshold", "recovery_timeout_seconds"}}
// It becomes the strategy "deployment" with the targets "primary" and "fallback".
#pragma once

#include "app/configuration.h"
#include "app/configuration_reader.h"

namespace tandem::app {

// Whether the document is of that shape, right or wrong.
bool IsContractShape(const DocumentNode& document);

// A target is on the device where its base_url is "local", where its model is one that the
// catalogue knows, and without a base_url; in the cloud where it has another one, where it has none
// and the shipped configuration has an upstream for the model, and where the primary is the same
// model on the device. Complaints go to the context's issues.
void ReadContract(const schema::ReadContext& context, const DocumentNode& document,
                  Configuration* configuration);

// Adds the shipped configuration's upstream of this model, where it has one and the configuration
// has none.
void AddShippedUpstream(std::string_view model, Configuration* configuration);

}  // namespace tandem::app
