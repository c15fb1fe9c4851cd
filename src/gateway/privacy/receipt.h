// Receipts: which tier wrote which part of an answer, and the digest of every byte that left this
// device for it, signed by the node. docs/receipts.md describes the form.
//
// A signature costs as much as everything else about a request, so receipts are signed in batches:
// one signature over the root of a Merkle tree, and in each receipt the path that leads there. A
// receipt still verifies alone.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "crypto/signature.h"
#include "gateway/provider/privacy.h"
#include "gateway/provider/trace.h"

namespace tandem::gateway::privacy {

// What one receipt says. None of the conversation's text: of the answer its digest only.
struct ReceiptFacts {
  std::string request_id;
  SystemTime time{};
  std::string policy_sha256;  // of the configuration that decided, hexadecimal
  Privacy privacy = Privacy::kAny;
  std::string key_id;         // of the virtual key; never the key
  std::string answer_sha256;  // of the answer's text, hexadecimal
  std::vector<Attempt> attempts;
};

// A receipt that was checked.
struct VerifiedReceipt {
  std::string request_id;
  uint64_t sequence = 0;  // of its node, from 1
  std::string previous;   // ReceiptDigest of the one before; empty for the first
  std::string answer_sha256;
  std::vector<Egress> egress;  // of the attempts that sent something, in their order
};

// What the next receipt of a node has as `previous`, hexadecimal: MerkleLeaf of what is signed of
// it, and of one in form 1 the SHA-256 of all its text. Of what is no receipt: something else.
std::string ReceiptDigest(std::string_view receipt);

// The number of a receipt in its node's chain, unchecked; 0 for what is no receipt.
uint64_t ReceiptSequence(std::string_view receipt);

// Of both forms, 1 and 2. Errors: kInvalidArgument where `receipt` has not the form of one;
// kPermissionDenied where the signature does not fit: a byte was changed, or another key signed it.
// Cost: one signature check (about 100 us) and one pass over the text.
Result<VerifiedReceipt> VerifyReceipt(std::string_view receipt, const crypto::PublicKey& key);

// The node's key, and the chain of what it signed. Thread: any.
class ReceiptSigner {
 public:
  // Reads the key, or makes it (PEM, mode 0600) where there is none. `last_receipt` is the newest
  // one that was kept, empty where there is none: the chain goes on there. A receipt that was
  // signed and lost in a crash leaves no trace in it. Errors: kFailedPrecondition where others may
  // read the key file; kCorrupt for a key file or a last receipt that is none; those of reading and
  // writing the file.
  static Result<std::unique_ptr<ReceiptSigner>> Open(const std::filesystem::path& key_file,
                                                     std::string_view last_receipt);

  // Receipts that follow each other, with one signature: each one line of JSON without its line
  // break. Cost: one signature (some 60 us), and about 5 us a receipt.
  std::vector<std::string> Sign(std::span<const ReceiptFacts> batch);

  crypto::PublicKey public_key() const { return key_.Public(); }

 private:
  ReceiptSigner(crypto::SigningKey key, uint64_t sequence, std::string previous);

  const crypto::SigningKey key_;
  const std::string key_id_;

  std::mutex mutex_;      // guards both below, so that the chain has no forks
  uint64_t sequence_;     // of the last receipt
  std::string previous_;  // its ReceiptDigest
};

// The public half of a key file. Errors: as ReceiptSigner::Open; kNotFound where no receipt was
// ever signed here.
Result<crypto::PublicKey> ReadReceiptKey(const std::filesystem::path& key_file);

}  // namespace tandem::gateway::privacy
