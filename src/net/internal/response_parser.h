// Turns the bytes of HTTP responses into a head and pieces of body. Private to net/: it shows
// Beast.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

#include <boost/beast/http/basic_parser.hpp>

#include "base/error.h"
#include "net/http_client.h"

namespace tandem::net::internal {

class ResponseParser final : private boost::beast::http::basic_parser<false> {
 public:
  // Gets the final response's head and body as Feed finds them; not the end.
  class Sink {
   public:
    virtual ~Sink() = default;
    virtual void OnParsedHead(ClientResponseHead head) = 0;
    virtual void OnParsedBody(std::string_view bytes) = 0;
  };

  // head_only: the answer to HEAD, or to a CONNECT that succeeded, has no body whatever it says.
  ResponseParser(Sink* sink, size_t max_header_bytes, bool head_only);

  enum class Outcome {
    kNeedMore,  // feed what was not consumed again, with more after it
    kComplete,
    kInterim,  // a 1xx response is over; go on with a new parser
    kError,
  };
  Outcome Feed(std::string_view data, size_t* consumed);

  // The peer has closed: kComplete if that is how this response ends.
  Outcome FeedEnd();

  bool started() const { return got_some(); }
  bool may_keep_alive() const { return is_header_done() && keep_alive() && !need_eof(); }
  const Error& error() const { return error_; }

 private:
  using ErrorCodeOut = boost::beast::error_code;
  using BeastView = boost::beast::string_view;

  Outcome Fail(ErrorCode code, std::string message);

  void on_request_impl(boost::beast::http::verb, BeastView, BeastView, int,
                       ErrorCodeOut&) override {}
  void on_response_impl(int code, BeastView reason, int version, ErrorCodeOut& ec) override;
  void on_field_impl(boost::beast::http::field, BeastView name, BeastView value,
                     ErrorCodeOut& ec) override;
  void on_header_impl(ErrorCodeOut& ec) override;
  void on_body_init_impl(const boost::optional<std::uint64_t>&, ErrorCodeOut&) override {}
  std::size_t on_body_impl(BeastView body, ErrorCodeOut&) override;
  void on_chunk_header_impl(std::uint64_t, BeastView, ErrorCodeOut&) override {}
  std::size_t on_chunk_body_impl(std::uint64_t, BeastView body, ErrorCodeOut&) override;
  void on_finish_impl(ErrorCodeOut&) override {}

  Sink* const sink_;
  const size_t max_header_bytes_;
  ClientResponseHead head_;
  size_t field_bytes_ = 0;
  Error error_;
};

}  // namespace tandem::net::internal
