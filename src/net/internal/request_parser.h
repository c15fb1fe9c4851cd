// Turns the bytes of one HTTP request into an HttpRequest, stricter than Beast's parser where
// leniency lets a proxy in front of us see other requests than we do. Private to net/: it shows
// Beast.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <boost/beast/http/basic_parser.hpp>

#include "base/error.h"
#include "net/http_message.h"

namespace tandem::net::internal {

class RequestParser final : private boost::beast::http::basic_parser<true> {
 public:
  struct Limits {
    size_t max_header_bytes = 0;  // request line and fields, and again for trailers
    size_t max_body_bytes = 0;
  };

  // Null, or what it returns null: the body goes into the request.
  using OpenBody = std::function<std::unique_ptr<BodySink>(const HttpRequest& head)>;

  explicit RequestParser(const Limits& limits, OpenBody open_body = nullptr);

  enum class Outcome {
    kNeedMore,  // feed the bytes that were not consumed again, with more after them
    kComplete,  // TakeRequest(); bytes that were not consumed belong to the next request
    kError,     // error_status(), error(); the connection has no use any more
  };

  // Not to be called again after kComplete or kError.
  Outcome Feed(std::string_view data, size_t* consumed);

  HttpRequest TakeRequest() { return std::move(request_); }

  bool started() const { return got_some(); }
  bool header_complete() const { return is_header_done(); }
  bool expects_continue() const { return expects_continue_; }
  bool body_started() const { return body_bytes_ > 0; }
  // The sink has enough for now. Asking takes the answer back.
  bool TakeSinkIsFull() { return std::exchange(sink_is_full_, false); }
  // What the client asks for; HTTP/1.0 closes by default.
  bool wants_keep_alive() const { return keep_alive(); }
  bool is_http_1_0() const { return version_ == 10; }

  int error_status() const { return error_status_; }
  const Error& error() const { return error_; }

 private:
  using ErrorCodeOut = boost::beast::error_code;
  using BeastView = boost::beast::string_view;

  Outcome Fail(int status, ErrorCode code, std::string message);
  Outcome FailFromParser(const ErrorCodeOut& ec, std::string_view data);
  // Notes what is wrong and stops the parser.
  void Refuse(int status, ErrorCode code, std::string message, ErrorCodeOut& ec);

  void on_request_impl(boost::beast::http::verb, BeastView method, BeastView target, int version,
                       ErrorCodeOut& ec) override;
  void on_response_impl(int, BeastView, int, ErrorCodeOut&) override {}
  void on_field_impl(boost::beast::http::field, BeastView name, BeastView value,
                     ErrorCodeOut& ec) override;
  void on_header_impl(ErrorCodeOut& ec) override;
  void on_body_init_impl(const boost::optional<std::uint64_t>& content_length,
                         ErrorCodeOut&) override;
  std::size_t on_body_impl(BeastView body, ErrorCodeOut&) override;
  void on_chunk_header_impl(std::uint64_t size, BeastView, ErrorCodeOut& ec) override;
  std::size_t on_chunk_body_impl(std::uint64_t, BeastView body, ErrorCodeOut&) override;
  void on_finish_impl(ErrorCodeOut&) override {}

  void TakeBody(std::string_view bytes);
  void RefuseBody(ErrorCodeOut& ec);

  const Limits limits_;
  const OpenBody open_body_;
  HttpRequest request_;
  uint64_t body_bytes_ = 0;
  bool sink_is_full_ = false;
  size_t field_bytes_ = 0;
  int version_ = 11;
  bool expects_continue_ = false;
  int error_status_ = 0;
  Error error_;
};

}  // namespace tandem::net::internal
