// One event loop of IoThreads. Private to net/: it shows Asio.
#pragma once

#include <array>

#include <boost/asio/io_context.hpp>

namespace tandem::net::internal {

class IoLoop {
 public:
  // One thread runs it: Asio then keeps handlers that the loop posts to itself in a private queue.
  boost::asio::io_context context{1};

  // What a socket has for us lands here first; valid until the handler that read it returns. It
  // saves idle connections a buffer each.
  std::array<char, 64 << 10> scratch;
};

}  // namespace tandem::net::internal
