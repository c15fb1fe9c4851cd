// Charter of app/: configuration, wiring, lifecycle and the adapters that join the wings through
// their doors; what each subcommand does, without its words. It may include the floor and the
// doors, nothing includes it but cli. Deliberately absent: anything that a wing could decide for
// itself.
//
// `tandem serve`: builds everything, in one readable function, and runs until it is told to stop.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "app/configuration.h"
#include "app/listen_address.h"
#include "app/served_models.h"
#include "base/error.h"
#include "engine/engine.h"

namespace tandem::app {

struct ServeOptions {
  ListenAddress listen{"127.0.0.1", 7070};
  std::filesystem::path data_dir;
  ServedModelsOptions models;
  engine::EngineOptions engine;
  int io_threads = 1;
  int max_in_flight = 64;
  std::string cors_allow_origin;
  std::chrono::milliseconds drain_timeout{30'000};  // for answers that run when SIGTERM comes
};

// What the configuration says of it; upstreams without the key that they need are left out, with a
// line in the log. Errors: those of ResolveUpstreams.
Result<ServeOptions> MakeServeOptions(const Configuration& configuration,
                                      std::filesystem::path data_dir);

// Serves until SIGTERM or SIGINT, then lets running answers finish; a second signal cuts them.
// `listening` is called once with the address in use (port 0 was replaced).
// Errors: kFailedPrecondition for an address that others can reach while no key exists; those of
// everything that is opened. Thread: the process's main one, before it starts any other, since it
// blocks these signals for all.
Status Serve(const ServeOptions& options,
             const std::function<void(const ListenAddress&)>& listening);

}  // namespace tandem::app
