mod ahead;
mod comparing;
mod serving;
mod support;
mod walks;
