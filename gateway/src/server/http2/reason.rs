/// Why a connection is ended: what the metric and the GOAWAY call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Resets,
    Mistakes,
    Continuations,
    Settings,
    Pings,
    Priorities,
    EmptyData,
    WindowUpdates,
    Streams,
    SlowHead,
    SlowBody,
    SlowRead,
    /// The codec found what the protocol forbids.
    Protocol,
}

impl Reason {
    pub fn name(self) -> &'static str {
        match self {
            Self::Resets => "resets",
            Self::Mistakes => "mistakes",
            Self::Continuations => "continuations",
            Self::Settings => "settings",
            Self::Pings => "pings",
            Self::Priorities => "priorities",
            Self::EmptyData => "empty_data",
            Self::WindowUpdates => "window_updates",
            Self::Streams => "streams",
            Self::SlowHead => "slow_head",
            Self::SlowBody => "slow_body",
            Self::SlowRead => "slow_read",
            Self::Protocol => "protocol",
        }
    }
}
