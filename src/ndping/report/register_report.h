// What `ndping register` found, for people, as CSV and as JSON.
#ifndef ND_NDPING_REPORT_REGISTER_REPORT_H_
#define ND_NDPING_REPORT_REGISTER_REPORT_H_

#include <string>
#include <vector>

#include "ndping/local/registration.h"
#include "ndping/report/report.h"

namespace nd::ndping {

// The table in the parts in which it is printed while the test runs.
std::string RegisterHeading();
std::string RegisterTextRow(const RegisterRow& row);
std::string RegisterNotes(const RegisterResult& result);

std::string RegisterCsvHeader();
std::string RegisterCsvRow(const RegisterRow& row);

Json ToJson(const RegisterResult& result, const RegisterOptions& options,
            const Outcome& outcome);

std::vector<Measured> MeasuredOf(const RegisterResult& result);

}  // namespace nd::ndping

#endif  // ND_NDPING_REPORT_REGISTER_REPORT_H_
