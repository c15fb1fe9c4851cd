// `tandem receipt`: checking receipts, and the node's public key.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "gateway/privacy/receipt.h"

namespace tandem::app {

// Where a node keeps the key that signs its receipts.
std::filesystem::path ReceiptKeyFile(const std::filesystem::path& data_dir);

// The public key of a data directory, PEM. Errors: kNotFound where nothing was signed there yet.
Result<std::string> ReceiptPublicKey(const std::filesystem::path& data_dir);

struct ReceiptQuestion {
  std::string receipts;                  // one a line
  std::string public_key;                // PEM
  std::optional<std::string> sent_body;  // bytes that an upstream was sent
  std::optional<std::string> answer;     // the answer's text
};

// Every receipt with its signature checked; two that follow each other in number are checked to be
// of one chain. Errors: kInvalidArgument for a key, or for a text that is no receipt;
// kPermissionDenied where a signature or the chain does not fit, or where no receipt is about the
// body or the answer that was asked for. Messages name the line.
Result<std::vector<gateway::privacy::VerifiedReceipt>> VerifyReceipts(
    const ReceiptQuestion& question);

}  // namespace tandem::app
