#include "gateway/router/egress_policy.h"

#include <gtest/gtest.h>

namespace tandem::gateway {
namespace {

GenerateRequest Request() {
  GenerateRequest request;
  request.request_id = "req-1";
  return request;
}

TEST(EgressPolicyTest, APermitCoversItsRequestOnly) {
  const auto permit = EgressPolicy::Permit(Request(), Privacy::kAny, Mode::kPreferOnDevice);
  ASSERT_TRUE(permit);
  EXPECT_TRUE(permit->Covers("req-1"));
  EXPECT_FALSE(permit->Covers("req-2"));
  EXPECT_FALSE(permit->Covers(""));
}

TEST(EgressPolicyTest, EveryReasonToStayRefuses) {
  const auto code = [](const GenerateRequest& request, Privacy privacy, Mode mode) {
    const auto permit = EgressPolicy::Permit(request, privacy, mode);
    return permit ? FailureCode::kCancelled : permit.error().code;
  };
  GenerateRequest local = Request();
  local.local_only = true;
  EXPECT_EQ(code(local, Privacy::kAny, Mode::kPreferInCloud), FailureCode::kPrivacyRefused);
  GenerateRequest on_device = Request();
  on_device.privacy = Privacy::kOnDevice;
  EXPECT_EQ(code(on_device, Privacy::kAny, Mode::kPreferInCloud), FailureCode::kPrivacyRefused);
  EXPECT_EQ(code(Request(), Privacy::kOnDevice, Mode::kOnlyInCloud), FailureCode::kPrivacyRefused);
  EXPECT_EQ(code(Request(), Privacy::kRedacted, Mode::kOnlyInCloud), FailureCode::kPrivacyRefused);
  EXPECT_EQ(code(Request(), Privacy::kAny, Mode::kOnlyOnDevice), FailureCode::kPrivacyRefused);
  EXPECT_EQ(code({}, Privacy::kAny, Mode::kPreferInCloud), FailureCode::kInternal);
}

}  // namespace
}  // namespace tandem::gateway
