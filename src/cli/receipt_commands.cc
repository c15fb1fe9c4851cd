// tandem receipt.
#include <memory>
#include <string>

#include <fmt/format.h>

#include "app/receipts.h"
#include "cli/command.h"
#include "os/file.h"

namespace tandem::cli {
namespace {

constexpr size_t kMaxKeyBytes = size_t{64} << 10;
constexpr size_t kMaxFileBytes = size_t{256} << 20;

struct ReceiptFlags {
  std::string file;
  std::string key;
  std::string sent_body;
  std::string answer;
  DataDirOption data_dir;
};

Status RunKey(const ReceiptFlags& flags) {
  TANDEM_ASSIGN_OR_RETURN(const auto data_dir, flags.data_dir.Get());
  TANDEM_ASSIGN_OR_RETURN(const std::string pem, app::ReceiptPublicKey(data_dir));
  return Print(pem);
}

Status RunVerify(const ReceiptFlags& flags) {
  app::ReceiptQuestion question;
  if (flags.file == "-") {
    TANDEM_ASSIGN_OR_RETURN(question.receipts, ReadStandardInput());
  } else {
    TANDEM_ASSIGN_OR_RETURN(question.receipts, os::ReadFile(flags.file, kMaxFileBytes));
  }
  if (flags.key.empty()) {
    TANDEM_ASSIGN_OR_RETURN(const auto data_dir, flags.data_dir.Get());
    TANDEM_ASSIGN_OR_RETURN(question.public_key, app::ReceiptPublicKey(data_dir));
  } else {
    TANDEM_ASSIGN_OR_RETURN(question.public_key, os::ReadFile(flags.key, kMaxKeyBytes));
  }
  if (!flags.sent_body.empty()) {
    TANDEM_ASSIGN_OR_RETURN(question.sent_body, os::ReadFile(flags.sent_body, kMaxFileBytes));
  }
  if (!flags.answer.empty()) {
    TANDEM_ASSIGN_OR_RETURN(question.answer, os::ReadFile(flags.answer, kMaxFileBytes));
  }
  TANDEM_ASSIGN_OR_RETURN(const auto receipts, app::VerifyReceipts(question));
  for (const auto& receipt : receipts) {
    std::string text =
        fmt::format("valid: receipt {} of request {}; ", receipt.sequence, receipt.request_id);
    if (receipt.egress.empty()) text += "nothing left this device\n";
    for (const auto& egress : receipt.egress) {
      text += fmt::format("\n  sent to {}: {} bytes, SHA-256 {}", egress.destination,
                          egress.n_bytes, egress.sha256);
    }
    if (!receipt.egress.empty()) text += '\n';
    TANDEM_RETURN_IF_ERROR(Print(text));
  }
  return {};
}

}  // namespace

void AddReceiptCommand(CLI::App* app, Action* action) {
  CLI::App* receipt = app->add_subcommand("receipt", "What left this device for an answer, signed");
  receipt->require_subcommand(1);

  auto flags = std::make_shared<ReceiptFlags>();
  CLI::App* verify = receipt->add_subcommand("verify", "Check the signature of receipts");
  verify->add_option("file", flags->file, "Receipts, one a line; - for standard input")->required();
  verify->add_option("--key", flags->key,
                     "The node's public key (PEM), as 'tandem receipt key' prints it there");
  verify->add_option("--sent-body", flags->sent_body,
                     "A file that must be a body which the receipts say was sent");
  verify->add_option("--answer", flags->answer,
                     "A file that must be the text of an answer which the receipts are about");
  flags->data_dir.Add(verify);
  verify->callback([flags, action] { *action = [flags] { return RunVerify(*flags); }; });

  auto key_flags = std::make_shared<ReceiptFlags>();
  CLI::App* key =
      receipt->add_subcommand("key", "Print the public key that receipts are checked with");
  key_flags->data_dir.Add(key);
  key->callback([key_flags, action] { *action = [key_flags] { return RunKey(*key_flags); }; });
}

}  // namespace tandem::cli
