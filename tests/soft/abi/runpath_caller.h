// A library whose RUNPATH has what the program's has not.
#ifndef TESTS_SOFT_ABI_RUNPATH_CALLER_H_
#define TESTS_SOFT_ABI_RUNPATH_CALLER_H_

bool OpensByRunpath(const char* library);

#endif  // TESTS_SOFT_ABI_RUNPATH_CALLER_H_
