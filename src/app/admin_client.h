// Orders to a server that runs, through its admin API.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"

namespace tandem::app {

struct AdminAddress {
  std::string url = "http://127.0.0.1:7070";
  std::string key;  // with the scope admin
};

// The body of the server's answer. `path` is behind "/v1/admin/".
// Errors: kUnavailable where nobody answers; what the server refused with, in its words;
// kUnauthenticated without a key.
Result<std::string> CallAdmin(const AdminAddress& address, std::string_view method,
                              std::string_view path, std::string body = {});

}  // namespace tandem::app
