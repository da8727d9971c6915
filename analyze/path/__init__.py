"""Which chain of events the time depended on, found with HolisticTraceAnalysis."""
