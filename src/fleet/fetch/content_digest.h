// SHA-256 as net/ takes a digest, which includes no crypto.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "crypto/digest.h"
#include "net/download.h"

namespace tandem::fleet {

class Sha256Digest final : public net::ContentDigest {
 public:
  void Update(std::string_view bytes) override { sha256_.Update(bytes); }
  std::string FinishHex() override { return crypto::Hex(sha256_.Finish()); }

 private:
  crypto::Sha256 sha256_;
};

}  // namespace tandem::fleet
