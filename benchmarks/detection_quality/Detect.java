// Runs one of MOA's detectors over streams; java -cp CLASSPATH Detect.java CLASS STREAMS prints the alarms as JSON.
// With "together" as a third argument all streams are fed at once, value by value, each to a detector of its own.
// STREAMS: the number of streams, then for each its length and its values, all big-endian (int, double).

import java.io.BufferedInputStream;
import java.io.DataInputStream;
import java.io.FileInputStream;
import java.util.ArrayList;
import java.util.List;
import moa.classifiers.core.driftdetection.AbstractChangeDetector;

public class Detect {
    static AbstractChangeDetector made(String name) throws Exception {
        String path = "moa.classifiers.core.driftdetection." + name;
        AbstractChangeDetector detector =
            (AbstractChangeDetector) Class.forName(path).getDeclaredConstructor().newInstance();
        detector.prepareForUse();
        detector.resetLearning();
        return detector;
    }

    // MOA's detectors begin anew by themselves with the first value after an alarm.
    static void take(AbstractChangeDetector detector, double value, int index, List<Integer> found) {
        detector.input(value);
        if (detector.getChange()) found.add(index);
    }

    static double[][] streams(String path) throws Exception {
        try (DataInputStream in = new DataInputStream(new BufferedInputStream(new FileInputStream(path)))) {
            double[][] streams = new double[in.readInt()][];
            for (int s = 0; s < streams.length; s++) {
                streams[s] = new double[in.readInt()];
                for (int i = 0; i < streams[s].length; i++) streams[s][i] = in.readDouble();
            }
            return streams;
        }
    }

    public static void main(String[] arguments) throws Exception {
        double[][] streams = streams(arguments[1]);
        List<List<Integer>> found = new ArrayList<>();
        List<AbstractChangeDetector> detectors = new ArrayList<>();
        int longest = 0;
        for (double[] values : streams) {
            found.add(new ArrayList<>());
            detectors.add(made(arguments[0]));
            longest = Math.max(longest, values.length);
        }
        boolean together = arguments.length > 2 && arguments[2].equals("together");
        if (together) {
            for (int i = 0; i < longest; i++)
                for (int s = 0; s < streams.length; s++)
                    if (i < streams[s].length) take(detectors.get(s), streams[s][i], i, found.get(s));
        } else {
            for (int s = 0; s < streams.length; s++) {
                AbstractChangeDetector detector = made(arguments[0]);
                for (int i = 0; i < streams[s].length; i++) take(detector, streams[s][i], i, found.get(s));
            }
        }
        System.out.println(found);
    }
}
