#include "app/receipts.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "crypto/digest.h"

namespace tandem::app {

namespace privacy = gateway::privacy;

std::filesystem::path ReceiptKeyFile(const std::filesystem::path& data_dir) {
  return data_dir / "receipt-key.pem";
}

Result<std::string> ReceiptPublicKey(const std::filesystem::path& data_dir) {
  const auto key = privacy::ReadReceiptKey(ReceiptKeyFile(data_dir));
  if (!key && key.error().code == ErrorCode::kNotFound) {
    return Err(ErrorCode::kNotFound,
               "'{}' has no key for receipts yet; 'tandem serve' makes it when it starts",
               data_dir.string());
  }
  TANDEM_RETURN_IF_ERROR(key);
  return key->ToPem();
}

Result<std::vector<privacy::VerifiedReceipt>> VerifyReceipts(const ReceiptQuestion& question) {
  TANDEM_ASSIGN_OR_RETURN(const auto key, crypto::PublicKey::FromPem(question.public_key));
  std::vector<privacy::VerifiedReceipt> receipts;
  std::string digest;  // of the receipt before
  size_t line_number = 0;
  for (std::string_view rest = question.receipts; !rest.empty();) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    ++line_number;
    auto receipt = privacy::VerifyReceipt(line, key);
    if (!receipt) return Wrap(std::move(receipt).error(), fmt::format("line {}", line_number));
    if (!receipts.empty() && receipt->sequence == receipts.back().sequence + 1 &&
        receipt->previous != digest) {
      return Err(ErrorCode::kPermissionDenied,
                 "line {}: receipt {} does not follow the one before: the chain is broken",
                 line_number, receipt->sequence);
    }
    digest = privacy::ReceiptDigest(line);
    receipts.push_back(*std::move(receipt));
  }
  if (receipts.empty()) return Err(ErrorCode::kInvalidArgument, "there is no receipt to check");
  if (question.sent_body) {
    const std::string sha256 = crypto::Sha256Hex(*question.sent_body);
    const bool sent = std::ranges::any_of(receipts, [&](const auto& receipt) {
      return std::ranges::any_of(receipt.egress, [&](const gateway::Egress& egress) {
        return egress.sha256 == sha256 && egress.n_bytes == question.sent_body->size();
      });
    });
    if (!sent) {
      return Err(ErrorCode::kPermissionDenied,
                 "none of the receipts says that this body left (SHA-256 {}, {} bytes)", sha256,
                 question.sent_body->size());
    }
  }
  if (question.answer) {
    const std::string sha256 = crypto::Sha256Hex(*question.answer);
    if (std::ranges::none_of(
            receipts, [&](const auto& receipt) { return receipt.answer_sha256 == sha256; })) {
      return Err(ErrorCode::kPermissionDenied,
                 "none of the receipts is about this answer (SHA-256 {})", sha256);
    }
  }
  return receipts;
}

}  // namespace tandem::app
