#include "lib/base/enum_names.h"

#include <gtest/gtest.h>

#include <string>

#include "lib/base/logging.h"

namespace tandem {
namespace {

TEST(EnumNames, ParseBackAndSayWhatIsExpected) {
  for (const LogLevel level : {LogLevel::kTrace, LogLevel::kWarn, LogLevel::kOff})
    EXPECT_EQ(*ParseEnum<LogLevel>("--log_level", NameOf(level)), level);
  EXPECT_EQ(NamesOf<LogLevel>(), "trace, debug, info, warn, error, off");
  EXPECT_EQ(ParseEnum<LogLevel>("--log_level", "Warn").status().message(),
            "--log_level: expected one of trace, debug, info, warn, error, off, found 'Warn'");
  EXPECT_EQ(ParseEnum<LogLevel>("", "").status().message(),
            "expected one of trace, debug, info, warn, error, off, found ''");
}

}  // namespace
}  // namespace tandem
