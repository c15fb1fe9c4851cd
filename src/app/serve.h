// Charter of app/: configuration, wiring, lifecycle and the adapters that join the wings through
// their doors; what each subcommand does, without its words. It may include the floor and the
// doors, nothing includes it but cli. Deliberately absent: anything that a wing could decide for
// itself.
//
// `tandem serve`: builds everything, in one readable function, and runs until it is told to stop.
#pragma once

#include <filesystem>
#include <functional>

#include "app/configuration_live.h"
#include "app/listen_address.h"
#include "base/error.h"

namespace tandem::app {

// Serves what the configuration says until SIGTERM or SIGINT, then lets running answers finish; a
// second signal cuts them. SIGHUP reads the configuration's file again.
//   listening  called once with the address in use (port 0 was replaced)
// Errors: kFailedPrecondition for an address that others can reach while no key exists; those of
// everything that is opened. Thread: the process's main one, before it starts any other, since it
// blocks these signals for all.
Status Serve(LiveConfiguration* configuration, const std::filesystem::path& data_dir,
             const std::function<void(const ListenAddress&)>& listening);

}  // namespace tandem::app
