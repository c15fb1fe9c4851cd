// An HttpResponse in memory, for tests. It keeps net/http_server.h's contract, and CHECKs that its
// caller does too.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include "base/check.h"
#include "net/http_server.h"

namespace tandem::gateway::testing {

// Thread: any. Callbacks run on the thread of the test that causes them, never inside a call.
class FakeHttpResponse final : public net::HttpResponse {
 public:
  // `capacity`: bytes of a stream that may wait for Read() before kFull.
  explicit FakeHttpResponse(size_t capacity = static_cast<size_t>(-1)) : capacity_(capacity) {}

  bool SendFull(int status, net::Headers headers, std::string body) override {
    std::lock_guard lock(mutex_);
    TANDEM_CHECK(status_ == 0);
    status_ = status;
    headers_ = std::move(headers);
    if (closed_) return false;
    body_ = std::move(body);
    complete_ = true;
    return true;
  }
  bool StartStream(int status, net::Headers headers) override {
    std::lock_guard lock(mutex_);
    TANDEM_CHECK(status_ == 0);
    status_ = status;
    headers_ = std::move(headers);
    streaming_ = true;
    return !closed_;
  }
  net::WriteResult Write(std::string_view bytes) override {
    std::lock_guard lock(mutex_);
    TANDEM_CHECK(streaming_);
    if (closed_ || complete_ || aborted_) return net::WriteResult::kClosed;
    const bool fits = bytes.size() <= capacity_ && waiting_ <= capacity_ - bytes.size();
    if (waiting_ > 0 && !fits) return net::WriteResult::kFull;
    waiting_ += bytes.size();
    body_ += bytes;
    return net::WriteResult::kOk;
  }
  bool Finish() override {
    std::lock_guard lock(mutex_);
    TANDEM_CHECK(streaming_ && !complete_);
    if (closed_) return false;
    complete_ = true;
    return true;
  }
  void Abort() override {
    std::lock_guard lock(mutex_);
    aborted_ = true;
  }
  void OnClosed(std::move_only_function<void()> callback) override {
    std::lock_guard lock(mutex_);
    on_closed_ = std::move(callback);
  }
  void OnWritable(std::move_only_function<void()> callback) override {
    std::lock_guard lock(mutex_);
    on_writable_ = std::move(callback);
  }
  bool closed() const override {
    std::lock_guard lock(mutex_);
    return closed_;
  }

  // The client goes away.
  void Close() {
    std::move_only_function<void()> callback;
    {
      std::lock_guard lock(mutex_);
      closed_ = true;
      if (!complete_) callback = std::exchange(on_closed_, nullptr);
    }
    if (callback) callback();
  }
  // The client reads everything that was sent.
  void Read() {
    std::move_only_function<void()> callback;
    {
      std::lock_guard lock(mutex_);
      waiting_ = 0;
      callback = std::exchange(on_writable_, nullptr);
    }
    if (callback) callback();
  }

  int status() const { return Get(status_); }  // 0: nothing was sent
  net::Headers headers() const { return Get(headers_); }
  std::string header(std::string_view name) const {
    return std::string(headers().Find(name).value_or(""));
  }
  std::string body() const { return Get(body_); }
  bool complete() const { return Get(complete_); }  // SendFull or Finish
  bool streaming() const { return Get(streaming_); }
  bool aborted() const { return Get(aborted_); }

 private:
  template <typename T>
  T Get(const T& value) const {
    std::lock_guard lock(mutex_);
    return value;
  }

  mutable std::mutex mutex_;
  const size_t capacity_;
  size_t waiting_ = 0;
  int status_ = 0;
  net::Headers headers_;
  std::string body_;
  bool streaming_ = false;
  bool complete_ = false;
  bool aborted_ = false;
  bool closed_ = false;
  std::move_only_function<void()> on_closed_;
  std::move_only_function<void()> on_writable_;
};

}  // namespace tandem::gateway::testing
