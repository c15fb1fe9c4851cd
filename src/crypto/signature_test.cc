#include "crypto/signature.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "crypto/digest.h"

namespace tandem::crypto {
namespace {

using testing::HasSubstr;
using testing::Not;

// RFC 8032, section 7.1, test 2, its keys in the frames of RFC 8410.
constexpr std::string_view kPrivatePem =
    "-----BEGIN PRIVATE KEY-----\n"
    "MC4CAQAwBQYDK2VwBCIEIEzNCJso/5banbbDRuwRTg9bijGfNaumJNqM9u1PuKb7\n"
    "-----END PRIVATE KEY-----\n";
constexpr std::string_view kPublicPem =
    "-----BEGIN PUBLIC KEY-----\n"
    "MCowBQYDK2VwAyEAPUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=\n"
    "-----END PUBLIC KEY-----\n";
constexpr std::string_view kSignatureOfR =
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";

TEST(SignatureTest, MatchesThePublishedVector) {
  const SigningKey key = SigningKey::FromPem(kPrivatePem).value();
  const std::string signature = key.Sign("\x72");
  EXPECT_EQ(signature, FromHex(kSignatureOfR).value());
  EXPECT_EQ(key.Public().ToPem(), kPublicPem);
  EXPECT_EQ(key.ToPem(), kPrivatePem);
  EXPECT_TRUE(PublicKey::FromPem(kPublicPem)->Verify("\x72", signature));
}

TEST(SignatureTest, EveryChangedBitIsNoticed) {
  const SigningKey key = SigningKey::Generate();
  const PublicKey pub = key.Public();
  const std::string message = "what was sent";
  const std::string signature = key.Sign(message);
  ASSERT_TRUE(pub.Verify(message, signature));
  for (size_t bit = 0; bit < signature.size() * 8; ++bit) {
    std::string wrong = signature;
    wrong[bit / 8] = static_cast<char>(wrong[bit / 8] ^ (1 << bit % 8));
    EXPECT_FALSE(pub.Verify(message, wrong)) << bit;
  }
  for (size_t bit = 0; bit < message.size() * 8; ++bit) {
    std::string wrong = message;
    wrong[bit / 8] = static_cast<char>(wrong[bit / 8] ^ (1 << bit % 8));
    EXPECT_FALSE(pub.Verify(wrong, signature)) << bit;
  }
  EXPECT_FALSE(pub.Verify(message, ""));
  EXPECT_FALSE(pub.Verify(message, signature + "x"));
  EXPECT_FALSE(SigningKey::Generate().Public().Verify(message, signature));
}

TEST(SignatureTest, KeysSurviveTheirPem) {
  const SigningKey key = SigningKey::Generate();
  const SigningKey again = SigningKey::FromPem(key.ToPem()).value();
  EXPECT_EQ(again.Sign("m"), key.Sign("m"));
  EXPECT_EQ(again.Public().Id(), key.Public().Id());
  EXPECT_EQ(key.Public().Id().size(), 64u);
  EXPECT_NE(SigningKey::Generate().Public().Id(), key.Public().Id());
  EXPECT_THAT(key.Public().ToPem(), Not(HasSubstr("PRIVATE")));
}

TEST(SignatureTest, WhatIsNoEd25519KeyIsRefused) {
  // A P-256 key made with `openssl ecparam -name prime256v1 -genkey`.
  constexpr std::string_view kOtherPublic =
      "-----BEGIN PUBLIC KEY-----\n"
      "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEus5TRC3YEVQXCGWIc3ZNF4kYpioO\n"
      "x1q53yw4hnXy7dYIcg+1jg7GFxjOGsksCfRSZw91xo9NQ15VR3d8Uyz74A==\n"
      "-----END PUBLIC KEY-----\n";
  EXPECT_EQ(PublicKey::FromPem(kOtherPublic).error().message,
            "this public key is not an Ed25519 key");
  for (const std::string_view text :
       {std::string_view(), std::string_view("secret"), kPublicPem, kPrivatePem.substr(0, 60)}) {
    const auto key = SigningKey::FromPem(text);
    ASSERT_FALSE(key);
    EXPECT_EQ(key.error().code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(key.error().message, Not(HasSubstr("secret")));
  }
  EXPECT_FALSE(PublicKey::FromPem(kPrivatePem));
  EXPECT_FALSE(PublicKey::FromPem(kPublicPem.substr(0, 70)));
}

}  // namespace
}  // namespace tandem::crypto
