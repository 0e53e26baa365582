// Runs one of MOA's detectors over streams; java -cp CLASSPATH Detect.java CLASS STREAMS prints the alarms as JSON.
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

    static List<Integer> alarms(AbstractChangeDetector detector, double[] values) {
        List<Integer> found = new ArrayList<>();
        for (int i = 0; i < values.length; i++) {
            detector.input(values[i]);
            // MOA's detectors begin anew by themselves with the first value after an alarm.
            if (detector.getChange()) found.add(i);
        }
        return found;
    }

    public static void main(String[] arguments) throws Exception {
        List<String> lines = new ArrayList<>();
        try (DataInputStream in = new DataInputStream(new BufferedInputStream(new FileInputStream(arguments[1])))) {
            int count = in.readInt();
            for (int s = 0; s < count; s++) {
                double[] values = new double[in.readInt()];
                for (int i = 0; i < values.length; i++) values[i] = in.readDouble();
                lines.add(alarms(made(arguments[0]), values).toString());
            }
        }
        System.out.println(lines);
    }
}
