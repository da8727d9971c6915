"""Which chain of events the time depended on, through HolisticTraceAnalysis."""
